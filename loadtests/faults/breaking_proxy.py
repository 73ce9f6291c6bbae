"""A TCP proxy that can be broken: it refuses, resets, stalls, cuts or drips, then passes all on again."""

import contextlib
import socket
import struct

import trio

from loadtests.model.errors import RunError
from loadtests.model.fault_check import place_of
from loadtests.model.faults import FaultSettings, ProxySettings

_READ_BYTES = 64 * 1024
_DRIPS_A_SECOND = 20
_CONNECT_S = 10.0


class BreakingProxy:
    """`open` it, `break_by` a fault of kind "proxy", `mend` it, `close` it."""

    def __init__(self, name: str, settings: ProxySettings, nursery: trio.Nursery) -> None:
        """Its connections run in `nursery`, until it is closed."""
        self.name = name
        self._settings = settings
        self._nursery = nursery
        self._fault: FaultSettings | None = None
        self._changed = trio.Event()
        """Set, and replaced, when it is broken or mended."""
        self._listening: trio.CancelScope | None = None
        self._open: set[trio.CancelScope] = set()
        self._closed = False
        self.port = 0
        """0: it has not listened yet."""

    async def open(self) -> None:
        """Listen. Raises RunError."""
        host, port = place_of(self._settings.listen)
        try:
            listeners = await trio.open_tcp_listeners(self.port or port, host=host)
        except OSError as error:
            words = error.strerror or error
            raise RunError(f"the proxy {self.name} cannot listen on {self._settings.listen}: {words}") from None
        self.port = listeners[0].socket.getsockname()[1]
        self._listening = trio.CancelScope()
        self._nursery.start_soon(self._accept, listeners, self._listening)

    def close(self) -> None:
        """End all connections."""
        self._closed = True
        if self._listening is not None:
            self._listening.cancel()
        for scope in tuple(self._open):
            scope.cancel()

    def break_by(self, fault: FaultSettings) -> None:
        """From now on."""
        self._fault = fault
        if fault.mode in {"refuse", "reset"} and self._listening is not None:
            self._listening.cancel()
            self._listening = None
        if fault.mode == "reset":
            for scope in tuple(self._open):
                scope.cancel()
        self._tell()

    async def mend(self) -> None:
        """All is passed on again. Raises RunError if the port was taken meanwhile."""
        self._fault = None
        self._tell()
        if self._listening is None:
            await self.open()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _accept(self, listeners: list[trio.SocketListener], scope: trio.CancelScope) -> None:
        # The handlers live in the proxy's nursery: they outlast the listening.
        with scope:
            await trio.serve_listeners(self._serve, listeners, handler_nursery=self._nursery)

    async def _serve(self, client: trio.SocketStream) -> None:
        if self._closed or len(self._open) >= self._settings.connections:
            _reset(client)
            return
        scope = trio.CancelScope()
        self._open.add(scope)
        try:
            with scope:
                await self._connect_and_pass(client)
        finally:
            self._open.discard(scope)
            if scope.cancelled_caught:
                _reset(client)
            client.socket.close()

    async def _connect_and_pass(self, client: trio.SocketStream) -> None:
        host, port = place_of(self._settings.to)
        server = None
        with contextlib.suppress(OSError, trio.TooSlowError), trio.fail_after(_CONNECT_S):
            server = await trio.open_tcp_stream(host, port)
        if server is None:
            _reset(client)
            return
        try:
            async with trio.open_nursery() as both:
                both.start_soon(self._pass_on, client, server, both, False)
                both.start_soon(self._pass_on, server, client, both, True)
        finally:
            server.socket.close()

    async def _pass_on(
        self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.Nursery, is_answer: bool
    ) -> None:
        passed, counted_for = 0, None
        try:
            while data := await source.receive_some(_READ_BYTES):
                while data:
                    fault = self._fault
                    if fault is not counted_for:
                        passed, counted_for = 0, fault
                    match fault.mode if fault is not None and is_answer else None:
                        case "stall":
                            await self._changed.wait()
                        case "drip":
                            assert fault is not None
                            part = max(1, int((fault.bytes_a_second or 1) / _DRIPS_A_SECOND))
                            await sink.send_all(data[:part])
                            data = data[part:]
                            with trio.move_on_after(part / (fault.bytes_a_second or 1)):
                                await self._changed.wait()
                        case "cut":
                            assert fault is not None
                            await sink.send_all(data[: fault.after_bytes - passed])
                            passed += len(data)
                            data = b""
                            if passed >= fault.after_bytes:
                                both.cancel_scope.cancel()
                        case _:
                            await sink.send_all(data)
                            data = b""
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            both.cancel_scope.cancel()


def _reset(stream: trio.SocketStream) -> None:
    """Close with RST."""
    with contextlib.suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()
