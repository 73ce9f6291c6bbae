"""The life of the process, with a scripted service: it starts, it is told to stop, it drains."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
import trio

from actors.api.errors import ErrorBody
from actors.api.request import InferenceRequest
from actors.api.response import Delta, Failed
from actors.kernel.errors import ServiceStalled
from config.load import load_settings
from config.profiles import embedded_profile
from gateway.app import serve
from gateway.http.server import listen
from tests.gateway.fakes import USAGE, FakeReadiness, FakeService, Step
from tests.gateway.harness import STREAM, Client, events
from tests.paths import ROOT
from tests.patience import PATIENCE_S

DRAINED = ErrorBody(503, "server_error", "draining", "The server shuts down.", should_retry=True)


class LivingService(FakeService):
    """Drains when its streams have ended, or at its deadline, which `expire` brings."""

    def __init__(self, script: Callable[[InferenceRequest], list[Step]] | None = None) -> None:
        super().__init__(script)
        self.draining = trio.Event()
        self.drained = trio.Event()
        self.deadlines: list[float] = []
        self.reloads: list[str] = []
        self.admin = self

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    def reload_soon(self, asked_by: str) -> None:
        self.reloads.append(asked_by)

    async def drain(self, deadline: float) -> None:
        self.deadlines.append(deadline - trio.current_time())
        self.ready = FakeReadiness(False, "draining")
        self.draining.set()
        if deadline <= trio.current_time():
            self.drained.set()
        await self.drained.wait()


async def connect(listener: socket.socket) -> Client:
    return Client(await trio.open_tcp_stream("127.0.0.1", listener.getsockname()[1]))


async def run(service: LivingService, listener: socket.socket, ready: trio.Event, ended: trio.Event) -> None:
    await serve(service, load_settings(embedded_profile()), listener, ready.set)
    ended.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(number: signal.Signals) -> None:
    service = LivingService(lambda _: [[Delta(0, "x", (1,))], service.drained.wait, [Failed(DRAINED, USAGE)]])
    service.ready = FakeReadiness(False, "loading")
    listener, ready, ended = listen("127.0.0.1", 0), trio.Event(), trio.Event()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, service, listener, ready, ended)
            client, idle = await connect(listener), await connect(listener)
            assert (await client.get("/readyz")).status == 503
            assert not ready.is_set()
            service.ready = FakeReadiness()
            await ready.wait()
            await client.post("/v1/chat/completions", STREAM)
            await client.head()
            signal.raise_signal(number)
            await service.draining.wait()
            # Connections are still answered, so that whoever watches learns of it.
            assert (await idle.get("/readyz")).json["state"] == "draining"
            late = await connect(listener)
            assert (await late.get("/livez")).status == 200
            service.drained.set()
            body = b"".join([chunk async for chunk in client.chunks()])
            assert events(body)[-1]["error"]["code"] == "draining"
            await ended.wait()
    assert 24 < service.deadlines[0] <= 25
    assert listener.fileno() == -1
    for each in (client, idle, late):
        await each.aclose()


async def test_a_second_signal_ends_the_patience() -> None:
    service = LivingService(lambda _: [[Delta(0, "x", (1,))], service.drained.wait, [Failed(DRAINED, USAGE)]])
    listener, ready, ended = listen("127.0.0.1", 0), trio.Event(), trio.Event()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, service, listener, ready, ended)
            await ready.wait()
            client = await connect(listener)
            await client.post("/v1/chat/completions", STREAM)
            await client.head()
            signal.raise_signal(signal.SIGTERM)
            await service.draining.wait()
            signal.raise_signal(signal.SIGTERM)
            await ended.wait()
    assert len(service.deadlines) == 2
    assert service.open_responses == 0
    assert b'"code":"draining"' in await client.ended()
    await client.aclose()


async def test_a_hangup_reloads() -> None:
    service = LivingService()
    listener, ready, ended = listen("127.0.0.1", 0), trio.Event(), trio.Event()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, service, listener, ready, ended)
            await ready.wait()
            signal.raise_signal(signal.SIGHUP)
            while not service.reloads:  # noqa: ASYNC110
                await trio.sleep(0.01)
            service.drained.set()
            signal.raise_signal(signal.SIGTERM)
            await ended.wait()
    assert service.reloads == ["signal"]


async def test_a_service_that_falls_takes_the_server_with_it() -> None:
    class FallingService(LivingService):
        async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            task_status.started()
            raise RuntimeError("fell")

    listener = listen("127.0.0.1", 0)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="fell")):
        await serve(FallingService(), load_settings(embedded_profile()), listener, lambda: None)
    assert listener.fileno() == -1


def test_the_collector_leaves_alone_what_was_loaded() -> None:
    """In a process of its own: it stays so until the process ends."""
    code = (
        "import gc; from gateway.app import spare_the_collector; spare_the_collector(); "
        "print(gc.get_freeze_count() > 10_000, gc.get_threshold()[0], gc.isenabled())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said.split() == ["True", "10000", "True"]


async def test_a_service_that_stalls_ends_its_streams_and_then_itself(monkeypatch) -> None:
    monkeypatch.setattr("gateway.app._PROGRESS_S", 0.01)
    service = LivingService(lambda _: [[Delta(0, "x", (1,))], service.drained.wait, [Failed(DRAINED, USAGE)]])
    listener, ready, failed = listen("127.0.0.1", 0), trio.Event(), trio.Event()

    async def run_until_it_fails() -> None:
        with pytest.RaisesGroup(pytest.RaisesExc(ServiceStalled, match="hangs")):
            await serve(service, load_settings(embedded_profile()), listener, ready.set)
        failed.set()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_until_it_fails)
            await ready.wait()
            client = await connect(listener)
            await client.post("/v1/chat/completions", STREAM)
            await client.head()
            service.stalled = True
            assert b'"code":"draining"' in await client.ended()
            await failed.wait()
    assert service.deadlines[0] <= 0
    await client.aclose()
