"""Starts the service with its HTTP servers, waits for signals, and shuts both down."""

import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio

from actors.kernel.errors import ServiceStalled
from actors.kernel.loop_watchdog import LoopWatchdog
from actors.service import Service
from config.model.settings import Settings
from gateway.endpoints.admin_routes import AdminRoutes
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.routes import Routes
from gateway.example_request import example_path
from gateway.handover import Takeover, offer
from gateway.http.bounds.limits import ServerLimits
from gateway.http.server import Server
from gateway.telemetry.metrics import exposition

_WRITE_S = 5.0
_GRACE_S = 2.0
"""How long connections may take to send their last bytes after the service has drained."""
_POLL_S = 0.05
_PROGRESS_S = 1.0
_YOUNG_OBJECTS = 10_000
"""New objects after which the garbage collector looks for cycles. Answers leave none, so it need not look often."""
_ADMIN_CONNECTIONS = 32
log = structlog.get_logger()


async def serve(
    service: Service,
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[], None],
    *,
    admin: socket.socket | None = None,
    takeover: Takeover | None = None,
    handover: Path | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or a hand-over, then drain. Raises `ServiceFailed` when an actor cannot be kept up.

    `admin`: the listening socket of the admin API, if it is enabled. `takeover`: the process that serves until this one
    is ready. `handover`: the Unix socket at which the next one asks.
    """
    limits = ServerLimits.of(settings.server)
    api = ApiContext(
        service=service,
        max_choices=settings.server.max_choices,
        max_inputs=settings.server.max_inputs,
        extra_names=settings.extra_request_fields,
        example=example_path(settings),
        shows_served=settings.server.answer_model == "served",
    )
    routes = Routes(api, limits, frozenset(settings.server.ws_origins))
    server = Server(listener, limits, routes, api.refused, api.error_format)
    routes.connections = lambda: server.connections
    servers = [server]
    if admin is not None:
        few = msgspec.structs.replace(limits, max_connections=_ADMIN_CONNECTIONS)
        servers.append(Server(admin, few, AdminRoutes(service.admin, partial(exposition, service, routes.connections))))
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
        trio.open_signal_receiver(signal.SIGHUP) as hangups,
    ):
        async with trio.open_nursery() as root:
            root.start_soon(_reload_when_told, service, hangups)
            await root.start(service.run)
            handed_over = trio.Event()

            async def begin() -> None:
                if takeover is not None:
                    await _take_over(service, takeover)
                for server in servers:
                    await root.start(server.run)
                await _when_ready(service, on_ready)
                if handover is not None:
                    names = dict(zip(("api", "admin"), [each.descriptor for each in servers], strict=False))
                    if service.ledger_lock is not None:
                        names["lock"] = service.ledger_lock
                    await offer(handover, names, partial(_give_up, service, servers), handed_over)

            root.start_soon(begin)
            root.start_soon(LoopWatchdog(float(settings.watchdog.event_loop)).run)
            root.start_soon(_end_if_stalled, service, servers)
            drain_s: float = settings.server.drain
            number = await _signal_or_handover(signals, handed_over)
            if number is None:
                began = trio.current_time()
                log.info("handed_over", deadline_s=drain_s)
                await _finish_connections(servers, drain_s, signals)
                drain_s = max(drain_s - (trio.current_time() - began), 0.0)
            else:
                log.info("draining", signal=signal.Signals(number).name, deadline_s=drain_s)
            await _drain(service, servers, drain_s, signals)
            log.info("stopped")
            root.cancel_scope.cancel()


async def _reload_when_told(service: Service, hangups: AsyncIterator[int]) -> None:
    async for _ in hangups:
        service.admin.reload_soon("signal")


async def _end_if_stalled(service: Service, servers: list[Server]) -> None:
    """Raises ServiceStalled, after running answers were ended with an error event."""
    while True:
        try:
            service.check_progress()
        except ServiceStalled:
            await service.drain(trio.current_time())
            async with trio.open_nursery() as nursery:
                for server in servers:
                    nursery.start_soon(server.finish, _GRACE_S)
            raise
        await trio.sleep(_PROGRESS_S)


async def _take_over(service: Service, takeover: Takeover) -> None:
    """Load, then let the process that serves now stop, then open the ledger; nothing is accepted before."""
    while not service.models_loaded:  # noqa: ASYNC110  (polled, as health probes do)
        await trio.sleep(_POLL_S)
    takeover.ready()
    while not service.readiness().ready:  # noqa: ASYNC110
        await trio.sleep(_POLL_S)
    takeover.close()


async def _give_up(service: Service, servers: list[Server]) -> None:
    """Accept no more, and write what has ended, so that the next process counts it."""
    for server in servers:
        server.hand_over()
    service.batches.stop()
    await service.write_ledger(_WRITE_S)


async def _signal_or_handover(signals: AsyncIterator[int], handed_over: trio.Event) -> int | None:
    """The number of a signal; None: another process serves now."""
    number: int | None = None
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            await handed_over.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait)
        number = await anext(signals)
        nursery.cancel_scope.cancel()
    return number


async def _finish_connections(servers: list[Server], within_s: float, signals: AsyncIterator[int]) -> None:
    """Each connection gets the answers that it waits for. A signal ends the wait."""
    async with trio.open_nursery() as nursery:

        async def hurry() -> None:
            await anext(signals)
            nursery.cancel_scope.cancel()

        nursery.start_soon(hurry)
        with trio.move_on_after(within_s):
            for server in servers:
                await server.closed()
        nursery.cancel_scope.cancel()


async def _when_ready(service: Service, on_ready: Callable[[], None]) -> None:
    while not service.readiness().ready:  # noqa: ASYNC110  (polled, as health probes do)
        await trio.sleep(_POLL_S)
    on_ready()


def spare_the_collector() -> None:
    """What has been loaded stays: a full collection would go through all of it, and stop all streams meanwhile."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


async def _drain(service: Service, servers: list[Server], drain_s: float, signals: AsyncIterator[int]) -> None:
    """Drain the service; new requests meanwhile get 503. A second signal moves the drain deadline to now."""

    async def hurry() -> None:
        await anext(signals)
        log.warning("draining_now")
        await service.drain(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hurry)
        await service.drain(trio.current_time() + drain_s)
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        for server in servers:
            nursery.start_soon(server.finish, _GRACE_S)
