"""Sends one request and reads its answer, as the client's behaviour says."""

import contextlib
import errno
import time
from collections.abc import Callable

import msgspec
import trio

from actors.upstream.http.address import Address
from loadtests.client import failures
from loadtests.client.answer import Answer
from loadtests.client.connections import Connections
from loadtests.client.http_exchange import HttpExchange
from loadtests.client.request_bytes import PreparedRequest, resuming
from loadtests.client.socket_exchange import SocketExchange
from loadtests.client.wire import Wire
from loadtests.model.scenario import Behaviour

_WATCHED_EVERY_S = 0.25
_SHOWN = 300
_OWN_FAULTS = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})
"""No more files, ports or memory."""


class CallTimes(msgspec.Struct):
    """When a call was sent, on the process's clock."""

    sent_s: float = 0.0
    connect_s: float | None = None
    """None: the connection was there."""
    resumed: bool = False


class OpenCalls:
    """Those whose answers have not ended. `watch` ends those that have become silent."""

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._open: dict[Answer, trio.CancelScope] = {}
        self._reading = True

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, answer: Answer) -> trio.CancelScope:
        answer.last_event_s = time.perf_counter()
        scope = trio.CancelScope()
        self._open[answer] = scope
        return scope

    def end(self, answer: Answer) -> None:
        del self._open[answer]

    async def watch(self) -> None:
        """Run until cancelled."""
        while True:
            await trio.sleep(_WATCHED_EVERY_S)
            until = time.perf_counter() - self._silence_s
            for answer, scope in self._open.items():
                if answer.last_event_s < until and not answer.closed:
                    answer.fail(failures.STALLED, f"no event for {self._silence_s:g} s, after {answer.events} events")
                    scope.cancel()


class Caller:
    """Makes the calls of one worker."""

    def __init__(self, address: Address, socket_target: str, connections: Connections, calls: OpenCalls) -> None:
        """`socket_target`: the path of the WebSocket."""
        self._address = address
        self._socket_target = socket_target
        self._connections = connections
        self._calls = calls

    async def call(
        self, request: PreparedRequest, headers: bytes, tenant: str, behaviour: Behaviour, answer: Answer
    ) -> CallTimes:
        """The answer is closed when this returns, unless the caller is cancelled."""
        times = CallTimes(sent_s=time.perf_counter())
        scope = self._calls.begin(answer)
        try:
            with scope:
                await self._call(request, headers, tenant, behaviour, answer, times)
        except Exception as error:  # noqa: BLE001  (one answer must not end a worker with all its requests)
            answer.fail(failures.GARBLED, f"it could not be read: {error!r}")
            answer.own_fault = f"the load tester could not read an answer: {error!r}"[:_SHOWN]
        finally:
            self._calls.end(answer)
        answer.ended(time.perf_counter(), in_order=False)
        return times

    async def _call(  # noqa: PLR0917
        self,
        request: PreparedRequest,
        headers: bytes,
        tenant: str,
        behaviour: Behaviour,
        answer: Answer,
        times: CallTimes,
    ) -> None:
        is_plain = behaviour.read_rate is None and request.kind.transport != "websocket"
        wire = self._connections.idle(tenant) if is_plain else None
        if wire is None:
            try:
                wire = await self._connections.open(small_buffer=behaviour.read_rate is not None)
            except OSError as error:
                answer.fail(failures.CONNECT_FAILED, error.strerror or str(error) or type(error).__name__)
                if error.errno in _OWN_FAULTS:
                    answer.own_fault = f"this machine could not open a connection: {error.strerror}"
                return
            times.connect_s = time.perf_counter() - times.sent_s
        reusable = False
        try:
            with trio.CancelScope() as leaving:
                if behaviour.leave_after is not None:
                    leaving.deadline = trio.current_time() + behaviour.leave_after
                if request.kind.transport == "websocket":
                    await self._over_socket(wire, request, behaviour, answer)
                else:
                    reusable = await self._over_http(wire, request, headers, behaviour, answer, times)
            if leaving.cancelled_caught:
                answer.fail(failures.LEFT, f"after {behaviour.leave_after:g} s")
        finally:
            if reusable and is_plain:
                self._connections.give_back(tenant, wire)
            else:
                wire.close()

    async def _over_http(  # noqa: PLR0917
        self,
        wire: Wire,
        request: PreparedRequest,
        headers: bytes,
        behaviour: Behaviour,
        answer: Answer,
        times: CallTimes,
    ) -> bool:
        """Returns whether the connection can be used again."""
        stop = _stop(answer, behaviour)
        exchange = HttpExchange(answer, streamed=request.kind.transport == "sse", stop=stop)
        await _exchange(wire, request.head + request.body, exchange, behaviour)
        if answer.closed or stop is None or not stop():
            return exchange.reusable
        if behaviour.reconnect_after_tokens is not None:
            wire.close()
            await self._resume(headers, answer, times)
            return False
        await _left(behaviour, answer)
        return False

    async def _resume(self, headers: bytes, answer: Answer, times: CallTimes) -> None:
        """Read on over a second connection."""
        if not answer.stream_id:
            answer.fail(failures.NOT_RESUMED, "the server did not keep the stream: it sent no x-penstock-stream")
            return
        times.resumed = True
        rest = HttpExchange(answer, streamed=True)
        request = resuming(self._address, answer.stream_id, answer.number or 0, headers)
        try:
            wire = await self._connections.open()
        except OSError as error:
            answer.fail(failures.NOT_RESUMED, str(error))
            return
        try:
            await _exchange(wire, request, rest, Behaviour())
        finally:
            wire.close()
        if answer.failure == failures.REFUSED:
            answer.failure = failures.NOT_RESUMED

    async def _over_socket(self, wire: Wire, request: PreparedRequest, behaviour: Behaviour, answer: Answer) -> None:
        stop = _stop(answer, behaviour)
        exchange = SocketExchange(answer, stop=stop, send=wire.send_now)
        handshake = exchange.handshake(self._address.authority, self._socket_target, request.head)
        await _exchange(wire, handshake, exchange, Behaviour())
        if not exchange.accepted:
            return
        await _exchange(wire, exchange.message(request.body), exchange, behaviour)
        if not answer.closed and stop is not None and stop():
            await _left(behaviour, answer)


async def _exchange(wire: Wire, data: bytes, exchange: HttpExchange | SocketExchange, behaviour: Behaviour) -> None:
    """Send, and read until the exchange has enough."""
    try:
        # A server may answer and close before it has read the whole request: its answer counts.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await wire.send_all(data)
        if behaviour.read_rate is not None:
            await wire.read_slowly(exchange.take, behaviour.read_rate)
        else:
            await wire.read_each(exchange.take)
    except OSError as error:
        exchange.lost(time.perf_counter(), error.strerror or str(error) or type(error).__name__)


def _stop(answer: Answer, behaviour: Behaviour) -> Callable[[], bool] | None:
    """Whether the client has read as much as it wants on this connection; None: it reads to the end."""
    limit = behaviour.leave_after_tokens or behaviour.half_open_after_tokens or behaviour.reconnect_after_tokens
    if limit is None:
        return None
    times = answer.times
    return lambda: len(times) >= limit


async def _left(behaviour: Behaviour, answer: Answer) -> None:
    """The client goes, or stays without reading until it is cancelled: by `OpenCalls`, or by the end of the run."""
    tokens = len(answer.times)
    if behaviour.half_open_after_tokens is None:
        answer.fail(failures.LEFT, f"after {tokens} events")
        return
    answer.fail(failures.LEFT, f"half-open after {tokens} events")
    await trio.sleep_forever()
