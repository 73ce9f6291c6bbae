"""One non-blocking TCP connection of the load process: what cannot be sent at once is kept and sent later."""

import contextlib
import select
import socket

from benchmarks.upstream.load.load_loop import LoadLoop

READ_BYTES = 1 << 16


class Connection:
    """A socket in the loop. Subclasses say what its bytes mean."""

    def __init__(self, load: LoadLoop, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.load = load
        self.open = True
        self._sock = sock
        self._descriptor = sock.fileno()
        self._unsent = bytearray()
        load.watch(self._descriptor, self._on_ready)

    @property
    def blocked(self) -> bool:
        """Whether the other side does not take what is sent."""
        return bool(self._unsent)

    def send(self, data: bytes) -> None:
        if not self.open:
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):
            self._unsent += data[sent:]
            self.load.watch_writing(self._descriptor, wanted=True)

    def close(self) -> None:
        """Close at once; `on_close` is called the first time."""
        if self.open:
            self.open = False
            self.load.forget(self._descriptor)
            with contextlib.suppress(OSError):
                self._sock.close()
            self.on_close()

    def on_data(self, data: bytes) -> None:
        raise NotImplementedError

    def on_close(self) -> None:
        """The connection is closed, by either side."""

    def _on_ready(self, mask: int) -> None:
        if mask & select.EPOLLOUT and self._unsent:
            self._flush()
        if mask & ~select.EPOLLOUT and self.open:
            try:
                data = self._sock.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self.on_data(data)
            else:
                self.close()

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        del self._unsent[:sent]
        if not self._unsent:
            self.load.watch_writing(self._descriptor, wanted=False)
