"""A client of raw sockets, the same for every server: it takes little of the cores that it shares with them.

While answers come it only notes what arrived when; lines are parsed afterwards.
"""

import itertools
import json
import re
import selectors
import socket
import statistics
from time import perf_counter

import msgspec

from benchmarks.engine.workloads import Ask

_PATIENCE_S = 300.0
# A token of the models that `make_model` writes is one such word, so events that carry several can be counted.
_WORD = re.compile(r"w(\d+)")


class ServerError(Exception):
    """A server did not do what it was asked."""


class Figures(msgspec.Struct, frozen=True):
    """One run of one workload."""

    output_tokens: int
    seconds: float
    output_tokens_per_s: float
    ttft_ms: float
    """Median."""
    tpot_ms: float
    """Mean over requests of (last token - first token) / (tokens - 1)."""
    itl_ms: float
    """Median; an arrival of several tokens counts as so many equal gaps."""


class _Stream:
    def __init__(self, port: int, ask: Ask) -> None:
        body = ask.body()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        self.ask = ask
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._arrived: list[tuple[float, bytes]] = []

    def send(self) -> None:
        self.socket.sendall(self._request)
        self.socket.setblocking(False)

    def receive(self) -> bool:
        """Whether it is complete."""
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return False
        self._arrived.append((perf_counter(), data))
        # The last event may come in two pieces.
        return not data or b"[DONE]" in b"".join(piece for _, piece in self._arrived[-2:])

    def tokens(self) -> list[tuple[float, int]]:
        """Each token with its time of arrival; one that shows no text (an end token that is ignored) has none."""
        found, rest, used = [], b"", 0
        for when, data in self._arrived:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    tokens, counted = _tokens(line[6:])
                    found += [(when, token) for token in tokens]
                    used = counted or used
        if not found or (used or len(found)) != self.ask.output_tokens:
            start = b"".join(data for _, data in self._arrived)[:400].decode(errors="replace")
            raise ServerError(f"{len(found)} tokens came, {self.ask.output_tokens} were asked for: {start}")
        return found


def _tokens(event: bytes) -> tuple[list[int], int]:
    """The tokens of an event, and how many the whole answer had if it says so."""
    fields = json.loads(event)
    if "error" in fields:
        raise ServerError(str(fields["error"]))
    words = [int(word) for choice in fields.get("choices") or () for word in _WORD.findall(choice.get("text") or "")]
    return words, int((fields.get("usage") or {}).get("completion_tokens", 0))


def answers(port: int, asks: list[Ask]) -> tuple[Figures, list[list[int]]]:
    """Send all at once; what was measured, and the token ids of each answer.

    Raises:
        ServerError: an answer is short, or an error.
    """
    streams = [_Stream(port, ask) for ask in asks]
    with selectors.DefaultSelector() as selector:
        started = perf_counter()
        for stream in streams:
            stream.send()
            selector.register(stream.socket, selectors.EVENT_READ, stream)
        waiting = len(streams)
        while waiting:
            ready = selector.select(_PATIENCE_S)
            if not ready:
                raise ServerError(f"nothing came for {_PATIENCE_S:.0f} s")
            for key, _ in ready:
                if key.data.receive():
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
                    waiting -= 1
    timed = [stream.tokens() for stream in streams]
    return _figures(started, timed, sum(ask.output_tokens for ask in asks)), [
        [token for _, token in stream] for stream in timed
    ]


def _figures(started: float, timed: list[list[tuple[float, int]]], tokens: int) -> Figures:
    gaps: list[float] = []
    for stream in timed:
        times = [when for when, _ in stream]
        arrivals = sorted(set(times))
        for earlier, later in itertools.pairwise(arrivals):
            together = times.count(later)
            gaps += [(later - earlier) / together] * together
    seconds = max(stream[-1][0] for stream in timed) - started
    return Figures(
        output_tokens=tokens,
        seconds=seconds,
        output_tokens_per_s=tokens / seconds,
        ttft_ms=1e3 * statistics.median(stream[0][0] - started for stream in timed),
        tpot_ms=1e3 * statistics.fmean((stream[-1][0] - stream[0][0]) / max(len(stream) - 1, 1) for stream in timed),
        itl_ms=1e3 * statistics.median(gaps) if gaps else 0.0,
    )
