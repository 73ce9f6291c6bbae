"""One connection to the server: bytes with the times of their arrival at this machine.

The kernel stamps each packet (`SO_TIMESTAMPNS`, socket(7)), so that neither a busy event loop nor a process that was
not scheduled makes an event look late; how long after the stamp its bytes were read and parsed is the load tester's own
lag. Without such stamps (not Linux), the end of the event loop's last wait is taken for the arrival.
"""

import contextlib
import socket
import ssl
import struct
import time
from array import array
from collections.abc import Callable
from functools import partial

import outcome
import trio

from actors.upstream.http.read_watcher import ReadWatcher

Take = Callable[[bytes, float], bool]
"""Called with bytes and the time of their arrival; b"" is the end. Returns whether to read on."""
READ_BYTES = 64 * 1024
_TIMESTAMP = 35
"""SO_TIMESTAMPNS on Linux, also the type of its control messages."""
_ANCILLARY_BYTES = 64
_LONGEST_LAG_S = 3600.0
_timespec = struct.Struct("qq").unpack_from


class LoopClock(trio.abc.Instrument):
    """When the event loop's last wait ended."""

    def __init__(self) -> None:
        self.after_io_wait(0.0)

    def after_io_wait(self, timeout: float) -> None:
        self.woken_s = time.perf_counter()
        self.ahead_s = self.woken_s - time.time()
        """From the wall's clock, which the kernel's stamps are of, to that of `time.perf_counter`."""


class Wire:
    """A connected socket, with TLS inside if there is any."""

    def __init__(self, sock: socket.socket, watcher: ReadWatcher, lags: "array[float]", loop: LoopClock) -> None:
        """`lags`: takes, for each read, the seconds from its arrival to the end of its parsing."""
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # not TCP
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stamped = False
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
            self.stamped = True
        self._sock = sock
        self._watcher = watcher
        self._lags = lags
        self._loop = loop
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Raises OSError, of which SSLError is one."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._send(self._outgoing.read())
                await trio.lowlevel.wait_readable(self._sock)
                data = self._sock.recv(READ_BYTES)
                if not data:
                    raise ConnectionResetError("closed during the TLS handshake") from None
                self._incoming.write(data)
        await self._send(self._outgoing.read())

    async def send_all(self, data: bytes) -> None:
        """Raises OSError."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        await self._send(data)

    def send_now(self, data: bytes) -> None:
        """Send a few bytes, such as a pong; if the socket is full they are dropped, and so is the connection soon."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        with contextlib.suppress(OSError):
            self._sock.send(data)

    async def read_each(self, take: Take) -> None:
        """Call `take` with all that arrives until it returns False or the connection has ended.

        It is called in the watcher's task, so that a read costs no task switch. Raises OSError, and what `take` raises.
        """
        task = trio.lowlevel.current_task()
        sock, lags, loop, wall_clock = self._sock, self._lags, self._loop, time.time
        receive = sock.recvmsg
        pass_on = take if self._tls is None else partial(self._pass_on, take)

        def on_readable() -> None:
            result: outcome.Outcome[None]
            try:
                data, ancillary, _, _ = receive(READ_BYTES, _ANCILLARY_BYTES)
                ahead = loop.ahead_s
                stamp = loop.woken_s - ahead
                if ancillary:
                    seconds, nanoseconds = _timespec(ancillary[0][2])
                    by_kernel = seconds + nanoseconds * 1e-9
                    if 0 <= wall_clock() - by_kernel < _LONGEST_LAG_S:  # else the clock was set
                        stamp = by_kernel
                go_on = pass_on(data, stamp + ahead) and data
                lags.append(wall_clock() - stamp)
                if go_on:
                    return
                result = outcome.Value(None)
            except BlockingIOError:
                return
            except Exception as error:  # noqa: BLE001  (it is raised in the task that reads)
                result = outcome.Error(error)
            self._watcher.remove(sock)
            trio.lowlevel.reschedule(task, result)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._watcher.remove(sock)
            return trio.lowlevel.Abort.SUCCEEDED

        self._watcher.add(sock, on_readable)
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def read_slowly(self, take: Take, bytes_a_second: float) -> None:
        """As `read_each`, at most so fast. The times are those of reading. Raises OSError."""
        amount = max(1, min(READ_BYTES, int(bytes_a_second / 10)))
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            data = self._sock.recv(amount)
            if not self._pass_on(take, data, time.perf_counter()):
                return
            await trio.sleep(len(data) / bytes_a_second)

    def has_unread(self) -> bool:
        """Whether bytes, the end, or an error have arrived."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Close at once."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    async def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[self._sock.send(left) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._sock)

    def _pass_on(self, take: Take, data: bytes, at: float) -> bool:
        if self._tls is None or not data:
            return take(data, at) and bool(data)
        self._incoming.write(data)
        while True:
            try:
                inner = self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                return True
            except ssl.SSLZeroReturnError:
                inner = b""
            if not take(inner, at) or not inner:
                return False
