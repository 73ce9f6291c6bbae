"""A raw-socket client, the same for every server, that takes little CPU time of the cores it shares with them.

During a run it only records what arrived when; lines are parsed afterwards.
"""

import itertools
import json
import re
import selectors
import socket
import statistics
from time import perf_counter

import msgspec

from benchmarks.engine.workloads import BenchRequest

_PATIENCE_S = 300.0
# A token of the models written by `make_model` is one such word, so that events with several tokens can be counted.
_WORD = re.compile(r"w(\d+)")


class ServerError(Exception):
    """A server's response is incomplete or an error."""


class Figures(msgspec.Struct, frozen=True):
    """Results of one run of one workload."""

    output_tokens: int
    seconds: float
    output_tokens_per_s: float
    ttft_ms: float
    """Median."""
    tpot_ms: float
    """Mean over requests of (last token - first token) / (tokens - 1)."""
    itl_ms: float
    """Median; an arrival of n tokens counts as n equal gaps."""


class _Stream:
    def __init__(self, port: int, request: BenchRequest) -> None:
        body = request.body()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        self._bytes = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        self.request = request
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._arrived: list[tuple[float, bytes]] = []

    def send(self) -> None:
        self.socket.sendall(self._bytes)
        self.socket.setblocking(False)

    def receive(self) -> bool:
        """Whether the response is complete."""
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return False
        self._arrived.append((perf_counter(), data))
        # The last event may arrive in two pieces.
        return not data or b"[DONE]" in b"".join(piece for _, piece in self._arrived[-2:])

    def tokens(self) -> list[tuple[float, int]]:
        """(arrival time, token id) per token; tokens without text (an ignored end token) are absent."""
        tokens_at, rest, used = [], b"", 0
        for when, data in self._arrived:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    tokens, counted = _tokens(line[6:])
                    tokens_at += [(when, token) for token in tokens]
                    used = counted or used
        if not tokens_at or (used or len(tokens_at)) != self.request.output_tokens:
            start = b"".join(data for _, data in self._arrived)[:400].decode(errors="replace")
            raise ServerError(f"{len(tokens_at)} tokens came, {self.request.output_tokens} were asked for: {start}")
        return tokens_at


def _tokens(event: bytes) -> tuple[list[int], int]:
    """The tokens of an event, and the total from its usage, 0 without one."""
    fields = json.loads(event)
    if "error" in fields:
        raise ServerError(str(fields["error"]))
    words = [int(word) for choice in fields.get("choices") or () for word in _WORD.findall(choice.get("text") or "")]
    return words, int((fields.get("usage") or {}).get("completion_tokens", 0))


def answers(port: int, requests: list[BenchRequest]) -> tuple[Figures, list[list[int]]]:
    """Send all requests at once; returns the results, and the token ids of each answer.

    Raises:
        ServerError: an answer is incomplete, or an error.
    """
    streams = [_Stream(port, it) for it in requests]
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
    return _figures(started, timed, sum(it.output_tokens for it in requests)), [
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
