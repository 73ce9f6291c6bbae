"""Runs with workers in processes of their own."""

import os
import resource
import signal
import time

import pytest
import trio

from config.model.table import Seconds
from loadtests.model.errors import RunError
from loadtests.model.record_file import decode_record, encode_record
from loadtests.model.scenario import Arrivals, LoadTarget, Scenario
from loadtests.running.progress import WorkerProgress
from loadtests.running.run import HostPart, LoadRun
from loadtests.running.worker_process import raise_open_files
from tests.loadtests.scripted_server import Conversation, ScriptedServer, events, serving
from tests.patience import PATIENCE_S


def scenario(server: ScriptedServer, **more) -> Scenario:
    given = {"duration": Seconds(0.4), "warm_up": Seconds(0), "arrivals": Arrivals(kind="constant", rate=20.0)} | more
    return Scenario(schema=1, target=LoadTarget(url=server.url), **given)


async def whole(conversation: Conversation) -> None:
    await conversation.stream_events(events())


async def test_two_workers_make_one_record() -> None:
    async with serving(whole) as server:
        record = await LoadRun(scenario(server, workers=2), {"": "k"}, version="9").run()
    assert (record.totals.ok, record.requests, len(record.rows)) == (8, 8, 8)
    assert record.header.penstock == "9"
    assert record.lag.sending.count == 8
    assert record.lag.reading.count > 8
    assert sum(window.measures.ok for window in record.windows) == 8
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer k"}
    assert decode_record(encode_record(record), "r").totals == record.totals


async def test_a_run_that_is_stopped_says_so() -> None:
    shown: list[WorkerProgress] = []

    def show(progress: WorkerProgress) -> None:
        shown.append(progress)
        if progress.ok:
            run.stop()

    async with serving(whole) as server:
        run = LoadRun(scenario(server, duration=Seconds(3600)), {}, version="9", show=show)
        record = await run.run()
    assert record.verdict.cut_short
    assert record.totals.ok
    assert 0 < record.header.measured_s < 3600
    assert shown


async def test_a_run_that_is_stopped_before_it_begins_is_no_fault_of_its_workers(monkeypatch) -> None:
    def stop_when_all_are_ready() -> float:
        run.stop()
        return 0.0

    async with serving(whole) as server:
        run = LoadRun(scenario(server, workers=2), {}, version="9")
        monkeypatch.setattr(run, "_until_begin", stop_when_all_are_ready)
        with trio.fail_after(PATIENCE_S):
            record = await run.run()
    assert (record.verdict.valid, record.verdict.reasons, record.verdict.cut_short) == (True, (), True)
    assert not server.asked


async def test_a_worker_that_dies_makes_the_run_invalid() -> None:
    async def ask_and_kill(conversation: Conversation) -> None:
        await whole(conversation)
        for pid in run.pids:
            os.kill(pid, signal.SIGKILL)

    async with serving(ask_and_kill) as server:
        run = LoadRun(scenario(server), {}, version="9")
        with trio.fail_after(PATIENCE_S):
            record = await run.run()
    assert not record.verdict.valid
    assert "ended before its time" in record.verdict.reasons[0]


async def test_a_time_that_has_passed_when_the_workers_are_ready() -> None:
    async with serving(whole) as server:
        part = HostPart(start_at=time.time() - 1.0)
        with trio.fail_after(PATIENCE_S), pytest.raises(RunError, match="before the workers were ready"):
            await LoadRun(scenario(server), {}, version="9", part=part).run()
        assert not server.asked


def test_a_worker_may_have_as_many_connections_as_the_system_allows() -> None:
    raise_open_files()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard
