"""A server of fixed bytes, in a process of its own: each stream gets its events at even times, whatever is asked.

It prints its port. The number of events is the request's `max_tokens`.
"""

import re
import socket
import sys
import time

from benchmarks.upstream.load import script
from benchmarks.upstream.load.connection import Connection
from benchmarks.upstream.load.load_loop import LoadLoop

_MAX_TOKENS = re.compile(rb'"max_tokens":\s*(\d+)')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


class StreamConnection(Connection):
    """A client's connection."""

    def __init__(self, load: LoadLoop, sock: socket.socket, interval_s: float) -> None:
        super().__init__(load, sock)
        self._interval_s = interval_s
        self._received = b""
        self._sent = self._events = 0
        self._began_at = 0.0

    def on_data(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return
        self._received = b""
        tokens = _MAX_TOKENS.search(body)
        self._events = int(tokens[1]) if tokens else 1
        self._sent = 0
        self._began_at = time.perf_counter()
        self.send(script.BEGIN)
        self._send_next()

    def _send_next(self) -> None:
        if not self.open:
            return
        self.send(script.event(self._sent))
        self._sent += 1
        if self._sent < self._events:
            self.load.at(self._began_at + self._sent * self._interval_s, self._send_next)
        else:
            self.send(script.end(8, self._events, usage=True))


def main(interval_s: float) -> None:
    load = LoadLoop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)

    def accept(mask: int) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            StreamConnection(load, sock, interval_s)

    load.watch(listener.fileno(), accept)
    print(listener.getsockname()[1], flush=True)
    while True:
        load.run(60.0)
        load.forget_lateness()


if __name__ == "__main__":
    main(float(sys.argv[1]))
