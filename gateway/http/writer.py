"""Sends on one socket: at once if the kernel accepts the data, else waiting, with a timeout for a stalled reader."""

import fcntl
import socket
import struct
import termios

import trio

from gateway.errors import ClientGone

_SENDS_BEFORE_CHECKPOINT = 16
"""Sends that do not block never let other tasks run. Measured: a checkpoint every 16 sends costs no speed."""

_LOOKS_PER_STALL = 8
"""Checks within the timeout: a socket is writable only when a third of its buffer is free, so a slow reader's
progress is measured by the unsent bytes instead."""


class SocketWriter:
    """All data to a connection goes through this. One task sends; a ticker may add complete pings between sends."""

    __slots__ = ("_left", "_sends", "_socket", "_stall_s", "torn", "waiting")

    def __init__(self, sock: socket.socket, stall_s: float) -> None:
        self._socket = sock
        self._stall_s = stall_s
        self._sends = 0
        self._left = b""
        self.waiting = False
        """A send is blocked."""
        self.torn = False
        """A send was abandoned in the middle, so nothing more may be sent."""

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises `ClientGone` if the peer is gone or reads nothing for `stall_s`."""
        if self._left:
            data = self._left + data
            self._left = b""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone from error
        if sent != len(data):
            await self._send_rest(memoryview(data)[sent:])
            return
        self._sends += 1
        if self._sends >= _SENDS_BEFORE_CHECKPOINT:
            self._sends = 0
            await trio.lowlevel.checkpoint()

    def is_ready(self) -> bool:
        """Whether everything before was sent."""
        return not (self.waiting or self.torn or self._left)

    def send_or_keep(self, data: bytes) -> bool:
        """Send what the kernel takes at once, and keep the rest for the next `send`: False if there is any.

        Only while `is_ready`. An error is raised by that `send`.
        """
        try:
            sent = self._socket.send(data)
        except OSError:
            sent = 0
        self._left = data[sent:]
        return not self._left

    async def flush(self) -> None:
        """Send what was kept. Raises `ClientGone`."""
        if self._left:
            await self.send(b"")

    def send_nowait(self, data: bytes) -> bool:
        """Send without waiting; False if that is not possible now. Never raises."""
        if not self.is_ready():
            return False
        try:
            sent = self._socket.send(data)
        except OSError:
            return False
        # The next send begins with the rest, so that no partial ping is followed by other data.
        self._left = data[sent:]
        return True

    def unsent(self) -> int:
        """Bytes in the kernel that the peer has not acknowledged; 0 if unknown."""
        try:
            held: int = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))[0]
        except OSError:
            return 0
        return held

    async def _send_rest(self, data: memoryview) -> None:
        self.waiting = True
        held = self.unsent()
        alive_at = trio.current_time()
        try:
            while data:
                with trio.move_on_after(self._stall_s / _LOOKS_PER_STALL):
                    await trio.lowlevel.wait_writable(self._socket)
                left = self.unsent()
                if left < held:
                    alive_at = trio.current_time()
                try:
                    data = data[self._socket.send(data) :]
                    alive_at = trio.current_time()
                except BlockingIOError:
                    if trio.current_time() - alive_at >= self._stall_s:
                        raise ClientGone from None
                held = self.unsent()
        except OSError as error:
            raise ClientGone from error
        finally:
            self.waiting = False
            self.torn = bool(data)
