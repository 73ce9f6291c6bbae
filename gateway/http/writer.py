"""Sending on one socket: at once if the kernel takes it, else waiting, but never for a reader that takes nothing."""

import fcntl
import socket
import struct
import termios

import trio

from gateway.errors import ClientGone

_SENDS_BEFORE_CHECKPOINT = 16
"""A send that never blocks never lets others run: by measurement, 16 keep the speed and give all a turn."""

_LOOKS_PER_STALL = 8
"""The kernel calls a socket writable when a third of its buffer is free: one who reads slowly is seen earlier so."""


class SocketWriter:
    """The one way out of a connection. One task sends; a ticker may slip whole pings in between, never into a send."""

    __slots__ = ("_left", "_sends", "_socket", "_stall_s", "torn", "waiting")

    def __init__(self, sock: socket.socket, stall_s: float) -> None:
        self._socket = sock
        self._stall_s = stall_s
        self._sends = 0
        self._left = b""
        self.waiting = False
        """A send waits for the reader."""
        self.torn = False
        """A send was given up half-way: nothing that follows would make sense to the reader."""

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises `ClientGone` if the peer is away or takes nothing for `stall_s`."""
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

    def send_nowait(self, data: bytes) -> bool:
        """Send now or not at all; False if a send is waiting or the peer takes nothing. Never raises."""
        if self.waiting or self.torn or self._left:
            return False
        try:
            sent = self._socket.send(data)
        except OSError:
            return False
        # The next send begins with the rest, so nobody sees half a ping.
        self._left = data[sent:]
        return True

    def unsent(self) -> int:
        """Bytes that the kernel holds because the peer has not taken them yet; 0 if it cannot tell."""
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
