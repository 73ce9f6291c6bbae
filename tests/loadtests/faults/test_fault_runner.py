"""Faults at their times, by what they do to processes and servers of the test."""

import subprocess
import sys
import time
from functools import partial

import pytest
import trio

from loadtests.faults.fault_runner import DONE, FaultRunner, name_of
from loadtests.model.errors import RunError
from loadtests.model.faults import FaultSettings, ProcessSettings, ProxySettings
from loadtests.model.scenario import Scenario
from tests.e2e.process import until
from tests.loadtests.faults.test_own_process import SLEEPS, is_there, state_of
from tests.loadtests.scripted_server import serving


async def carried_out(*faults: FaultSettings, pids=None, keys=None, **more: object) -> list[tuple[str, str]]:
    scenario = Scenario(schema=1, faults=faults, **more)
    async with trio.open_nursery() as nursery, FaultRunner(scenario, pids or {}, keys or {}, nursery) as runner:
        await runner.run(time.perf_counter())
    assert all(record.begin_s >= fault.at for record, fault in zip(runner.records, faults, strict=True))
    return [(record.kind, record.outcome) for record in runner.records]


@pytest.fixture
def sleeper():
    process = subprocess.Popen(SLEEPS)
    yield process
    process.kill()
    process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_stall_ends_also_if_the_run_does(sleeper) -> None:
    fault = FaultSettings(kind="stall", at=0.0, lasts=1000.0, process="server")
    scenario = Scenario(schema=1, faults=(fault,))
    async with trio.open_nursery() as nursery:
        async with (
            FaultRunner(scenario, {"server": sleeper.pid}, {}, nursery) as runner,
            trio.open_nursery() as running,
        ):
            running.start_soon(runner.run, time.perf_counter())
            while state_of(sleeper.pid) != "T":
                await trio.lowlevel.checkpoint()
            running.cancel_scope.cancel()
        until(lambda: state_of(sleeper.pid) in "SR")
    assert [record.outcome for record in runner.records] == ["ended with the run"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_stall_lasts_as_long_as_it_says(sleeper) -> None:
    fault = FaultSettings(kind="stall", at=0.0, lasts=0.2, process="server")
    scenario = Scenario(schema=1, faults=(fault,))
    async with trio.open_nursery() as nursery, FaultRunner(scenario, {"server": sleeper.pid}, {}, nursery) as runner:
        await runner.run(time.perf_counter())
        until(lambda: state_of(sleeper.pid) in "SR")
    assert runner.records[0].end_s - runner.records[0].begin_s >= 0.2


async def test_kill_and_what_is_gone(sleeper) -> None:
    faults = [FaultSettings(kind="kill", at=at, process="server") for at in (0.0, 0.3)]
    pids = {"server": sleeper.pid}

    async with trio.open_nursery() as nursery:
        found: list[tuple[str, str]] = []

        async def run() -> None:
            found.extend(await carried_out(*faults, pids=pids))

        nursery.start_soon(run)
        while sleeper.poll() is None:
            await trio.lowlevel.checkpoint()
    assert found == [("kill", DONE), ("kill", "the process server was gone")]


async def test_restart_of_an_own_process() -> None:
    fault = FaultSettings(kind="restart", at=0.0, process="server")
    assert await carried_out(fault, processes={"server": ProcessSettings(SLEEPS)}) == [("restart", DONE)]


async def test_a_restart_that_fails_is_said(tmp_path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    fault = FaultSettings(kind="restart", at=0.2, process="server")
    scenario = Scenario(schema=1, faults=(fault,), processes={"server": ProcessSettings((str(program),))})
    async with trio.open_nursery() as nursery, FaultRunner(scenario, {}, {}, nursery) as runner:
        program.unlink()
        await runner.run(time.perf_counter())
    assert "cannot be started" in runner.records[0].outcome


async def test_reload_sends_its_key() -> None:
    async def script(conversation) -> None:
        status = "200 OK" if conversation.number == 1 else "422 No"
        await conversation.answer({"said": "refused"}, status, "connection: close\r\n")
        await conversation.stream.aclose()

    async with serving(script) as server:
        fault = partial(FaultSettings, kind="reload", url=f"{server.url}/admin/policy/reload")
        found = await carried_out(fault(at=0.0), fault(at=0.1), keys={0: "secret"})
        assert found[0] == ("reload", DONE)
        assert found[1][1].startswith("the answer was 422: ")
        assert server.asked[0].headers["authorization"] == "Bearer secret"
        assert server.asked[0].target == "/admin/policy/reload"
    assert "connect" in (await carried_out(fault(at=0.0)))[0][1]


async def test_a_proxy_breaks_and_is_mended() -> None:
    proxies = {"way": ProxySettings(listen="127.0.0.1:0", to="127.0.0.1:1")}
    fault = FaultSettings(kind="proxy", at=0.0, lasts=0.05, proxy="way", mode="refuse")
    assert await carried_out(fault, proxies=proxies) == [("proxy", DONE)]


@pytest.mark.parametrize(
    ("process", "pids", "words"),
    [
        ("server", {}, r"name it by --pid server=PID"),
        ("server", {"server": 4_000_000_000}, "--pid server=4000000000: "),
        ("", {"other": 5}, "no fault is for a process of this name"),
    ],
)
async def test_processes_that_are_not_there(process: str, pids: dict[str, int], words: str) -> None:
    faults = [FaultSettings(kind="kill", at=0.0, process=process)] if process else []
    with pytest.RaisesGroup(pytest.RaisesExc(RunError, match=words)):
        await carried_out(*faults, pids=pids)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (FaultSettings(kind="stall", at=1.0, lasts=2.0, process="server"), "stall server, 2 s"),
        (FaultSettings(kind="proxy", at=1.0, lasts=2.5, proxy="way", mode="drip"), "drip way, 2.5 s"),
        (FaultSettings(kind="reload", at=1.0), "reload"),
        (FaultSettings(kind="kill", at=1.0, process="a", name="the end"), "the end"),
    ],
)
def test_names(fault: FaultSettings, name: str) -> None:
    assert name_of(fault) == name


async def test_own_processes_end_when_the_run_cannot_begin(tmp_path) -> None:
    log = tmp_path / "log"
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(1000)"
    processes = {
        "a": ProcessSettings((sys.executable, "-c", code), log=log),
        "b": ProcessSettings((sys.executable, "-c", "import time; time.sleep(2)"), "http://127.0.0.1:1/"),
    }
    with pytest.RaisesGroup(RunError):
        async with trio.open_nursery() as nursery:
            await FaultRunner(Scenario(schema=1, processes=processes), {}, {}, nursery).__aenter__()
    assert not is_there(int(log.read_text()))
