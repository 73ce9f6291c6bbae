"""The clients of the load process: connections to a gateway that ask again and again, and what arrived on them."""

import json
import socket
import time
from array import array

import msgspec

from benchmarks.upstream.load.answer_reader import AnswerReader
from benchmarks.upstream.load.connection import Connection
from benchmarks.upstream.load.exchange import Exchange, Plan
from benchmarks.upstream.load.load_loop import LoadLoop
from benchmarks.upstream.load.script import MODEL
from benchmarks.upstream.load.scripted_upstream import MARK, ScriptedUpstream

_CONNECT_S = 10.0
_SHOWN_BYTES = 300


class Target(msgspec.Struct, frozen=True):
    """Where clients ask."""

    port: int
    headers: dict[str, str] = {}
    path: str = "/v1/chat/completions"


class Totals(msgspec.Struct):
    """What a fleet has counted so far."""

    pieces: int = 0
    events: int = 0
    """Lines with `data:` of ended streams, `[DONE]` included."""
    answers: int = 0
    """Answers that ended in order."""
    lost: int = 0
    """Pieces that are missing in them."""
    failed: int = 0
    """Answers with another status, and lost connections."""
    retried: int = 0
    """Requests that reached the upstream more than once."""
    problem: str = ""
    """The first failure."""


class Client(Connection):
    """One connection; it asks one request at a time."""

    def __init__(self, fleet: "Fleet", sock: socket.socket, number: int, request: bytes) -> None:
        super().__init__(fleet.load, sock)
        self.number = number
        self.exchange: Exchange | None = None
        self._fleet = fleet
        self._request = request
        self._reader = AnswerReader()

    def ask(self) -> None:
        if not self.open:
            return
        self._reader = AnswerReader()
        self.exchange = self._fleet.begin_exchange(self.number)
        self.send(self._request)

    def on_data(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        reader = self._reader
        new = reader.feed(data)
        if new:
            self._fleet.totals.pieces += new
            if not exchange.first_at:
                exchange.first_at = self.load.now
            if exchange.plan.timed:
                exchange.arrived.extend((self.load.now,) * new)
        if reader.ended:
            self._ended(exchange)

    def on_close(self) -> None:
        if self.exchange is not None:
            self._reader.end_of_connection()
            self._ended(self.exchange)

    def _ended(self, exchange: Exchange) -> None:
        self.exchange = None
        self._fleet.on_end(self, exchange, self._reader)


class Fleet:
    """Clients with one `plan`."""

    def __init__(self, load: LoadLoop, upstream: ScriptedUpstream, target: Target, plan: Plan, count: int) -> None:
        """Connect all of them. Raises OSError."""
        self.load = load
        self.totals = Totals()
        self.repeating = True
        """Whether a client asks again when its answer has ended."""
        self.ended: list[Exchange] = []
        """Exchanges of timed plans that have ended."""
        self.ttft_s = array("d")
        self.latency_s = array("d")
        """Of each answer: from its request to the first piece, and to its end."""
        self._upstream = upstream
        self.plan = plan
        self._asked = self._ended = 0
        self.clients: list[Client] = []
        for _ in range(count):
            number = upstream.next_number()
            sock = socket.create_connection(("127.0.0.1", target.port), timeout=_CONNECT_S)
            self.clients.append(Client(self, sock, number, request_bytes(target, plan, number)))

    @property
    def running(self) -> list[Exchange]:
        """Those whose answer has not ended."""
        return [client.exchange for client in self.clients if client.exchange is not None]

    def idle(self) -> bool:
        """Whether every answer that was asked for has ended."""
        return self._asked == self._ended

    def ask_all(self, over_s: float = 0.0) -> None:
        """Let each client begin, all together or evenly over some time."""
        begin = self.load.now
        for place, client in enumerate(self.clients):
            if over_s:
                self.load.at(begin + over_s * place / len(self.clients), client.ask)
            else:
                client.ask()

    def begin_exchange(self, number: int) -> Exchange:
        self._asked += 1
        exchange = Exchange(self.plan, time.perf_counter())
        self._upstream.exchanges[number] = exchange
        return exchange

    def on_end(self, client: Client, exchange: Exchange, reader: AnswerReader) -> None:
        self._ended += 1
        totals = self.totals
        if exchange.calls > 1:
            totals.retried += 1
        if reader.problem or not client.open:
            totals.failed += 1
            totals.problem = (
                totals.problem or f"{reader.problem} {reader.shown[:_SHOWN_BYTES].decode(errors='replace')}"
            )
        else:
            totals.answers += 1
            totals.events += reader.events
            totals.lost += self.plan.events - reader.pieces
            self.ttft_s.append(exchange.first_at - exchange.asked_at)
            self.latency_s.append(self.load.now - exchange.asked_at)
            if self.plan.timed:
                self.ended.append(exchange)
        if self.repeating:
            client.ask()

    def close(self) -> None:
        """Disconnect all clients, whatever they wait for."""
        self.repeating = False
        for client in self.clients:
            client.exchange = None
            client.close()
            self._upstream.exchanges.pop(client.number, None)


def request_bytes(target: Target, plan: Plan, number: int) -> bytes:
    """The request of one client, whose number its prompt begins with."""
    prompt = f"{MARK.decode()}{number:06d} What is 17 + 25?" + " abc" * (plan.prompt_bytes // 4)
    body = json.dumps(
        {
            "model": MODEL,
            "messages": [
                {"role": "user", "content": prompt},
            ],
            "temperature": 0.2,
            "max_tokens": plan.events,
            "stream": plan.stream,
        },
        separators=(",", ":"),
    ).encode()
    headers = {
        "host": f"127.0.0.1:{target.port}",
        "user-agent": "bench",
        "accept": "*/*",
        "content-type": "application/json",
        **target.headers,
        "content-length": str(len(body)),
    }
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"POST {target.path} HTTP/1.1\r\n{lines}\r\n".encode() + body
