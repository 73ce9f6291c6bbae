"""Byte streams to servers: TCP on a non-blocking socket, and TLS over it with the system's trust store."""

import socket
import ssl
from collections.abc import Callable
from typing import Protocol

import outcome
import trio

from actors.upstream.http.address import Address
from actors.upstream.http.errors import ConnectError
from actors.upstream.http.read_watcher import ReadWatcher

READ_BYTES = 64 * 1024
_READS_BEFORE_CHECKPOINT = 16
"""Reads that do not wait never let other tasks run."""


class ByteStream(Protocol):
    """A connection's bytes. Errors are trio's `BrokenResourceError` and `ClosedResourceError`."""

    def send_now(self, data: bytes, /) -> int:
        """Send what can be sent without waiting; returns the number of bytes."""

    async def send_all(self, data: bytes, /) -> None: ...

    async def receive_some(self, max_bytes: int, /) -> bytes | bytearray: ...

    async def receive_each(self, take: Callable[[bytes], bool], /) -> None:
        """Call `take` with all that arrives, as it arrives, until it returns False; b"" is the end, and the last.

        Raises what `take` raises.
        """

    def close(self) -> None:
        """Close at once, without waiting and without a farewell."""

    def has_unread(self) -> bool:
        """Whether bytes, or the end, have arrived that were not received."""


class TcpStream(trio.abc.Stream):
    """A connected socket. Sends and receives at once where that is possible: no pass of the event loop is spent.

    The watcher knows the socket as long as it is open, so that a wait costs no system call; it forgets one on which
    something arrives while nothing is received.
    """

    def __init__(self, sock: socket.socket, watcher: ReadWatcher) -> None:
        """`watcher`: runs as long as anything is received."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._watcher = watcher
        self._watched = False
        self._task: trio.lowlevel.Task | None = None
        """Waits until something has arrived ..."""
        self._take: Callable[[bytes], bool] | None = None
        """... and for this to return False, or to raise."""
        self._max_bytes = READ_BYTES
        self._drained = False
        """The last read took all that had arrived."""
        self._reads = 0

    def send_now(self, data: bytes | memoryview) -> int:
        """Raises BrokenResourceError."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Raises BrokenResourceError."""
        left = memoryview(data)
        while left:
            sent = self.send_now(left)
            if not sent:
                await trio.lowlevel.wait_writable(self._socket)
            left = left[sent:]

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """All that has arrived, up to `max_bytes`; b"": the end. Raises BrokenResourceError."""
        max_bytes = max_bytes or READ_BYTES
        self._reads += 1
        if not self._drained and self._reads < _READS_BEFORE_CHECKPOINT:
            try:
                return self._received(self._socket.recv(max_bytes), max_bytes)
            except BlockingIOError:
                pass
            except OSError as error:
                raise trio.BrokenResourceError from error
        self._reads = 0
        self._watch(None, max_bytes)
        data: bytes = await trio.lowlevel.wait_task_rescheduled(self._abort)
        return self._received(data, max_bytes)

    async def receive_each(self, take: Callable[[bytes], bool]) -> None:
        """`take` is called in the watcher's task, so that a piece costs no task switch. Raises BrokenResourceError."""
        self._watch(take, READ_BYTES)
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _received(self, data: bytes, max_bytes: int) -> bytes:
        self._drained = len(data) < max_bytes
        return data

    def _watch(self, take: Callable[[bytes], bool] | None, max_bytes: int) -> None:
        """The task is rescheduled with what arrives next; with `take`, with what that was given last."""
        self._task, self._take, self._max_bytes = trio.lowlevel.current_task(), take, max_bytes
        if not self._watched:
            self._watched = True
            self._watcher.add(self._socket, self._on_readable)

    def _on_readable(self) -> None:
        if self._task is None:
            self._forget()
            return
        result: outcome.Outcome[bytes]
        try:
            data = self._socket.recv(self._max_bytes)
            if self._take is not None and self._take(data) and data:
                return
            result = outcome.Value(data)
        except BlockingIOError:
            return
        except OSError as error:
            result = outcome.Error(trio.BrokenResourceError(str(error)))
        except Exception as error:  # noqa: BLE001  (it is raised in the task that receives)
            result = outcome.Error(error)
        self._wake(result)

    def _wake(self, result: "outcome.Outcome[bytes]") -> None:
        task, self._task, self._take = self._task, None, None
        if task is not None:
            trio.lowlevel.reschedule(task, result)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = self._take = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _forget(self) -> None:
        if self._watched:
            self._watched = False
            self._watcher.remove(self._socket)

    def close(self) -> None:
        """Close the socket, waking the task that waits for it."""
        if self._socket.fileno() >= 0:
            self._forget()
            self._wake(outcome.Error(trio.ClosedResourceError()))
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def aclose(self) -> None:
        """Close the socket."""
        self.close()
        await trio.lowlevel.checkpoint()

    def has_unread(self) -> bool:
        """Whether bytes, the end, or an error have arrived."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


class TlsStream:
    """TLS over TCP. An end without a farewell is an end: HTTP's framing tells whether something is missing."""

    def __init__(self, tcp: TcpStream, context: ssl.SSLContext, host: str) -> None:
        self._tcp = tcp
        self._tls = trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True)

    async def handshake(self) -> None:
        """Raises BrokenResourceError, also for a certificate that is not valid."""
        await self._tls.do_handshake()

    def send_now(self, data: bytes) -> int:
        """Nothing: only a wait tells when a record was sent."""
        return 0

    async def send_all(self, data: bytes) -> None:
        """Raises BrokenResourceError."""
        await self._tls.send_all(data)

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        """What has arrived; b"": the end. Raises BrokenResourceError."""
        return await self._tls.receive_some(max_bytes)

    async def receive_each(self, take: Callable[[bytes], bool]) -> None:
        """Raises BrokenResourceError."""
        await receive_each(self, take)

    def close(self) -> None:
        """Close the socket."""
        self._tcp.close()

    def has_unread(self) -> bool:
        """Whether anything has arrived at the socket, or was received and not decrypted, or not returned."""
        tls = self._tls
        inside = tls._incoming.pending or tls._ssl_object.pending()  # noqa: SLF001  (trio shows neither)
        return bool(inside) or self._tcp.has_unread()


async def receive_each(stream: ByteStream, take: Callable[[bytes], bool]) -> None:
    """`ByteStream.receive_each` by `receive_some`."""
    while True:
        data = bytes(await stream.receive_some(READ_BYTES))
        if not take(data) or not data:
            return


async def connect(address: Address, context: ssl.SSLContext, watcher: ReadWatcher) -> ByteStream:
    """A connection to the address's server, by TLS if its scheme says so. Raises ConnectError."""
    try:
        opened = await trio.open_tcp_stream(address.host, address.port)
        tcp = TcpStream(socket.socket(fileno=opened.socket.detach()), watcher)
        return await _over_tls(tcp, context, address.host) if address.tls else tcp
    except (OSError, ValueError, trio.BrokenResourceError) as error:
        raise ConnectError(_cause(error)) from error


def _cause(error: BaseException) -> str:
    """What the system, or TLS, says of the first cause."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            break
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or type(error).__name__}"
    said = error.strerror if isinstance(error, OSError) else None
    return said or type(error).__name__


async def _over_tls(tcp: TcpStream, context: ssl.SSLContext, host: str) -> TlsStream:
    try:
        tls = TlsStream(tcp, context, host)
        await tls.handshake()
    except BaseException:
        tcp.close()
        raise
    return tls
