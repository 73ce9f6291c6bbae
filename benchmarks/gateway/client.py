"""A client with little overhead: raw sockets and one epoll, prepared requests, events counted without parsing."""

import select
import socket
import time

import msgspec

_READ_BYTES = 1 << 18
_PATIENCE_S = 30
_EVENT = b"data: {"
_END = b"0\r\n\r\n"


def _request(tokens: int, *, stream: bool) -> bytes:
    body = msgspec.json.encode(
        {
            "model": "bench",
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": "What is 17 + 25?"},
            ],
            "temperature": 0.2,
            "max_tokens": tokens,
            "stream": stream,
        }
    )
    # The query is for the server of fixed bytes; the gateway reads the number from the body.
    return (
        b"POST /v1/chat/completions?%d HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: application/json\r\n"
        b"Content-Type: application/json\r\nAuthorization: Bearer none\r\nContent-Length: %d\r\n\r\n%b"
    ) % (tokens if stream else 0, len(body), body)


class Sockets:
    """Open connections to one server."""

    def __init__(self, port: int, count: int) -> None:
        self.epoll = select.epoll()
        self.by_descriptor: dict[int, socket.socket] = {}
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.by_descriptor[sock.fileno()] = sock
            self.epoll.register(sock.fileno(), select.EPOLLIN)

    def close(self) -> None:
        for sock in self.by_descriptor.values():
            sock.close()
        self.epoll.close()


class Window(msgspec.Struct):
    """Counts of one measurement."""

    events: int
    """Events of streams, or whole answers."""
    seconds: float


def small_requests(port: int, *, connections: int, seconds: float) -> Window:
    """Non-streamed completions of one token, at least one; a connection repeats its request after each answer."""
    sockets = Sockets(port, connections)
    request = _request(1, stream=False)
    for sock in sockets.by_descriptor.values():
        sock.sendall(request)
    answered = 0
    begin = time.perf_counter()
    while not answered or time.perf_counter() < begin + seconds:
        for descriptor, _ in sockets.epoll.poll(0.1):
            sock = sockets.by_descriptor[descriptor]
            data = sock.recv(_READ_BYTES)
            if not data.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"unexpected answer: {data[:300]!r}")
            answered += 1
            sock.sendall(request)
    seconds = time.perf_counter() - begin
    sockets.close()
    return Window(answered, seconds)


def open_streams(port: int, streams: int, tokens: int) -> Sockets:
    """Start that many streams without reading."""
    sockets = Sockets(port, streams)
    request = _request(tokens, stream=True)
    for sock in sockets.by_descriptor.values():
        sock.sendall(request)
    return sockets


def read_streams(sockets: Sockets, seconds: float) -> Window:
    """Count events of all streams for a while, one at least. Raises RuntimeError if a stream ends."""
    begin = time.perf_counter()
    events = 0
    tails = dict.fromkeys(sockets.by_descriptor, b"")
    while not events or time.perf_counter() < begin + seconds:
        for descriptor, _ in sockets.epoll.poll(0.1):
            data = tails[descriptor] + sockets.by_descriptor[descriptor].recv(_READ_BYTES)
            if data.endswith(_END) or not data:
                raise RuntimeError(f"a stream ended early: {data[-300:]!r}")
            events += data.count(_EVENT)
            tails[descriptor] = data[-len(_EVENT) + 1 :]
    return Window(events, time.perf_counter() - begin)


def first_event_times(port: int, count: int) -> list[float]:
    """Seconds from sending a request to its first event with text, sequentially on one connection."""
    sockets = Sockets(port, 1)
    (sock,) = sockets.by_descriptor.values()
    request = _request(2, stream=True)
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        sock.sendall(request)
        data = b""
        first = 0.0
        while not data.endswith(_END):
            data += sock.recv(_READ_BYTES)
            if not first and b'"content":"' in data.split(_EVENT, 1)[-1]:
                first = time.perf_counter()
        times.append(first - begin)
    sockets.close()
    return times
