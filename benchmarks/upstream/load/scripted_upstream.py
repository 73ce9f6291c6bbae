"""The scripted upstream: an OpenAI-compatible chat server in the load process, whose answers follow the client's plan.

A request is recognised by the number that its client put into the prompt. It is streamed if its body says so, whatever
the client asked for: a gateway may ask for a stream although its client wants a whole answer.
"""

import re
import socket
import time

from benchmarks.upstream.load import script
from benchmarks.upstream.load.connection import Connection
from benchmarks.upstream.load.exchange import Exchange, Plan
from benchmarks.upstream.load.load_loop import LoadLoop

MARK = b"bench-"
"""Before the six digits of the client's number, at the beginning of its prompt."""
_DIGITS = 6
_STREAMED = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:\s*100-continue", re.IGNORECASE)
_BACKLOG = 4096
# A gateway's own requests, such as health checks, are in no client's plan.
_OWN = Plan(events=1, stream=False)


class ScriptedUpstream:
    """Listens on a free port of the loopback interface."""

    def __init__(self, load: LoadLoop) -> None:
        self.load = load
        self.exchanges: dict[int, Exchange] = {}
        """By the client's number: its current request."""
        self.running: set[StreamedCall] = set()
        """Streams that have not ended."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._connections: set[UpstreamConnection] = set()
        self._numbers = 0
        load.watch(self._listener.fileno(), self._accept)

    def close(self) -> None:
        self.load.forget(self._listener.fileno())
        self._listener.close()
        for connection in list(self._connections):
            connection.close()

    def next_number(self) -> int:
        """A number for one more client."""
        self._numbers += 1
        return self._numbers

    def add(self, connection: "UpstreamConnection") -> None:
        self._connections.add(connection)

    def remove(self, connection: "UpstreamConnection") -> None:
        self._connections.discard(connection)

    def _accept(self, mask: int) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            UpstreamConnection(self, sock)


class UpstreamConnection(Connection):
    """A gateway's connection, which stays open."""

    def __init__(self, upstream: ScriptedUpstream, sock: socket.socket) -> None:
        super().__init__(upstream.load, sock)
        self._upstream = upstream
        self._received = bytearray()
        self._wanted = 0
        """Bytes of the request that is arriving, head included; 0: its head is not complete."""
        self._call: StreamedCall | None = None
        upstream.add(self)

    def on_data(self, data: bytes) -> None:
        self._received += data
        while self._received and self._take():
            pass

    def on_close(self) -> None:
        self._upstream.remove(self)
        if self._call is not None:
            self._call.abandon()

    def _take(self) -> bool:
        """Answer the first request that has arrived completely."""
        received = self._received
        if not self._wanted:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(received[:end])
            if _EXPECTS.search(head):
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            if length := _LENGTH.search(head):
                self._wanted = end + 4 + int(length[1])
            elif _CHUNKED.search(head):
                last = received.find(b"\r\n0\r\n\r\n", end)
                if last < 0:
                    return False
                self._wanted = last + 7
            else:
                self._wanted = end + 4
        if len(received) < self._wanted:
            return False
        request = bytes(received[: self._wanted])
        del received[: self._wanted]
        self._wanted = 0
        self._answer(request)
        return self.open

    def _answer(self, request: bytes) -> None:
        method, path, _ = request.split(b" ", 2)
        path = path.split(b"?", 1)[0].removeprefix(b"/v1")
        if method == b"POST" and path == b"/chat/completions":
            self._chat(request)
        elif path == b"/models":
            self.send(script.MODELS)
        elif path == b"/version":
            self.send(script.VERSION)
        elif path in {b"/", b"/health", b"/health_generate", b"/ping"}:
            self.send(script.HEALTHY)
        else:
            self.send(script.UNKNOWN)

    def _chat(self, request: bytes) -> None:
        place = request.find(MARK, request.find(b"\r\n\r\n"))
        number = request[place + len(MARK) : place + len(MARK) + _DIGITS]
        exchange = self._upstream.exchanges.get(int(number)) if place >= 0 and number.isdigit() else None
        if exchange is None:
            exchange = Exchange(_OWN, self.load.now)
        exchange.calls += 1
        plan = exchange.plan
        if _STREAMED.search(request):
            self._call = StreamedCall(self, self._upstream, exchange, usage=_USAGE.search(request) is not None)
            self._call.begin()
        else:
            self.send(script.whole(plan.prompt_tokens, plan.events))


class StreamedCall:
    """One stream: paced by timers, or at full speed in turns with the others."""

    __slots__ = ("_began_at", "_connection", "_end", "_exchange", "_load", "_plan", "_running", "_sent", "_timed")

    def __init__(
        self, connection: UpstreamConnection, upstream: ScriptedUpstream, exchange: Exchange, *, usage: bool
    ) -> None:
        self._connection = connection
        self._load = upstream.load
        self._running = upstream.running
        self._exchange = exchange
        self._plan = exchange.plan
        # Of a request that was sent twice, the first attempt's times count.
        self._timed = exchange.plan.timed and exchange.plan.stream and exchange.calls == 1
        self._sent = 0
        self._began_at = 0.0
        self._end = script.end(self._plan.prompt_tokens, self._plan.events, usage=usage)

    def begin(self) -> None:
        """Send the role at once; if paced, the first event with it."""
        self._running.add(self)
        if self._plan.interval_s and self._plan.stream:
            self._began_at = time.perf_counter()
            self._connection.send(script.BEGIN)
            self._send_paced()
        elif self._plan.stream:
            self._connection.send(script.BEGIN)
            self._load.ready.append(self._send_one)
        else:
            self._connection.send(script.BEGIN + b"".join(map(script.event, range(self._plan.events))) + self._end)
            self._running.discard(self)

    def abandon(self) -> None:
        """The gateway has closed the connection."""
        self._running.discard(self)

    def _send_paced(self) -> None:
        if self not in self._running:
            return
        if self._timed:
            self._exchange.sent.append(time.perf_counter())
        self._connection.send(script.event(self._sent))
        self._sent += 1
        if self._sent < self._plan.events:
            self._load.at(self._began_at + self._sent * self._plan.interval_s, self._send_paced)
        else:
            self._finish()

    def _send_one(self) -> bool:
        if self not in self._running:
            return False
        if self._connection.blocked:
            return True
        self._connection.send(script.event(self._sent))
        self._sent += 1
        if self._sent < self._plan.events:
            return True
        self._finish()
        return False

    def _finish(self) -> None:
        self._connection.send(self._end)
        self._running.discard(self)
