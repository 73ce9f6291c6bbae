"""Threads, on the real clock: nothing here sleeps, everything waits for events."""

import os
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.api.errors import EngineLoadFailed
from actors.api.request import InferenceRequest, ParsedBody, TokenPrompt
from actors.kernel import thread_bridge as bridge_module
from actors.kernel.thread_bridge import LongWork, ThreadBridge, TimeSlices
from actors.ledger.store import Store
from actors.service import Service
from actors.worker_threads import RealWorkerThreads
from config.model.settings import EngineSettings
from engine.core.engine import Engine
from engine.core.loop import StepLoop, Stop
from engine.errors import ModelError
from engine.messages import EngineFailed, Submit
from engine.sampling.params import SamplingParams
from engine.testing.fake_runner import FakeRunner
from policies.queueing.turn_queue import WorkFor
from tests.actors.clock_workers import connection
from tests.actors.fakes import CONFIG, Answer, model_text, says, settings_of
from tests.engine.tiny_tokenizers import byte_level_tokenizer
from tests.patience import PATIENCE_S


def echo(inbox, post) -> None:
    while (command := inbox.get()) is not None:
        post(command * 2)


async def test_commands_go_in_posts_come_out_and_the_thread_ends():
    got: list[int] = []
    all_there = trio.Event()

    def on_posts(posts: list[int]) -> None:
        got.extend(posts)
        if len(got) == 1000:
            all_there.set()

    bridge = ThreadBridge("echo", echo, on_posts)
    for number in range(1000):
        bridge.send(number)
    with trio.fail_after(PATIENCE_S):
        await all_there.wait()
    assert got == [number * 2 for number in range(1000)]
    bridge.send(None)
    assert await bridge.join(PATIENCE_S)


async def test_many_posts_cost_few_hops():
    hops: list[int] = []
    release = threading.Event()
    done = trio.Event()

    def body(inbox, post) -> None:
        inbox.get()
        for number in range(500):
            post(number)
        release.set()

    def on_posts(posts: list[int]) -> None:
        hops.append(len(posts))
        if sum(hops) == 500:
            done.set()

    bridge = ThreadBridge("burst", body, on_posts)
    bridge.send(0)
    # The loop is held here, as a busy one is, until all posts are there.
    assert release.wait(PATIENCE_S)
    with trio.fail_after(PATIENCE_S):
        await done.wait()
    assert hops == [500]
    assert await bridge.join(PATIENCE_S)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux only")
async def test_a_nice_thread_is_nicer_than_the_process_and_nobody_else_is():
    got: list[int] = []
    bridge = ThreadBridge(
        "nice", lambda _, post: post(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())), got.extend, nice=3
    )
    assert await bridge.join(PATIENCE_S)
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert got == [min(ours + 3, 19)]


def engine_in_turns(turns: TimeSlices, on_step, requests: int) -> threading.Thread:
    """A step loop with work, in a thread of its own, which ends when told."""
    inbox = SimpleQueue()
    engine = Engine(FakeRunner(on_step=on_step), byte_level_tokenizer(), EngineSettings(model=Path("none")))
    for number in range(requests):
        params = SamplingParams(max_tokens=20, ignore_eos=True)
        inbox.put(Submit(sequence_id=number, prompt_token_ids=(1, 2, 3), params=params))

    def post(report) -> None:
        if not isinstance(report, EngineFailed) and report.stats.running == report.stats.waiting == 0:
            inbox.put(Stop())

    loop = StepLoop(engine, inbox, post, turns.join())
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_engines_compute_than_may_and_all_come_to_an_end(monkeypatch, at_once):
    monkeypatch.setattr(bridge_module, "_LONGEST_TURN_S", PATIENCE_S)
    computing, most = [], []
    as_many_as_may = threading.Event()

    def on_step(number, batch) -> None:
        computing.append(1)
        most.append(len(computing))
        if len(computing) == at_once:
            as_many_as_may.set()
        assert as_many_as_may.wait(PATIENCE_S)
        time.sleep(0.001)
        computing.pop()

    turns = TimeSlices(at_once)
    threads = [engine_in_turns(turns, on_step, requests) for requests in (1, 4, 9)]
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert max(most) == at_once


def test_an_engine_that_hangs_in_a_step_does_not_stop_the_others(monkeypatch):
    monkeypatch.setattr(bridge_module, "_LONGEST_TURN_S", 0.02)
    hangs, go_on = threading.Event(), threading.Event()

    def hang(number, batch) -> None:
        hangs.set()
        go_on.wait(PATIENCE_S)

    turns = TimeSlices(1)
    hung = engine_in_turns(turns, hang, 1)
    assert hangs.wait(PATIENCE_S)
    other = engine_in_turns(turns, None, 2)
    other.join(PATIENCE_S)
    assert not other.is_alive()
    assert hung.is_alive()
    go_on.set()
    hung.join(PATIENCE_S)
    assert not hung.is_alive()


def test_an_engine_that_fails_gives_its_turn_back():
    def fail(number, batch) -> None:
        raise RuntimeError

    turns = TimeSlices(1)
    for on_step in (fail, None):
        thread = engine_in_turns(turns, on_step, 1)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


async def test_an_abandoned_thread_is_not_heard():
    got: list[int] = []
    bridge = ThreadBridge("echo", echo, got.extend)
    bridge.abandon()
    bridge.send(1)
    bridge.send(None)
    assert await bridge.join(PATIENCE_S)
    assert got == []


async def test_joining_a_stuck_thread_is_bounded():
    release = threading.Event()
    bridge = ThreadBridge("stuck", lambda *_: release.wait(), lambda _: None)
    assert not await bridge.join(0.01)
    release.set()
    assert await bridge.join(PATIENCE_S)


def test_a_thread_may_outlive_the_loop():
    release, ended = threading.Event(), threading.Event()

    def body(inbox, post) -> None:
        release.wait()
        post(1)
        ended.set()

    async def main() -> None:
        ThreadBridge("late", body, lambda _: None)

    trio.run(main)
    release.set()
    assert ended.wait(PATIENCE_S)


def file_settings(tmp_path):
    return settings_of(CONFIG.replace(":memory:", str(tmp_path / "ledger.sqlite3")))


def service_of(settings, text: str = "the quick brown fox", **runner) -> Service:
    def make(name: str):
        return lambda _: Engine(
            FakeRunner(script=says(text), **runner), byte_level_tokenizer(), settings.engines[name], name=name
        )

    texts = {name: model_text() for name in settings.engines}
    return Service(settings, {name: [make(name)] for name in settings.engines}, texts=texts)


async def until_ready(service: Service) -> None:
    while not service.readiness().ready:  # noqa: ASYNC110
        await trio.sleep(0.001)


async def ask(service: Service, number: int) -> Answer:
    request = InferenceRequest(
        request_id=f"r{number}",
        body=ParsedBody(
            model=("small", "both", "whole")[number % 3],
            prompts=(TokenPrompt((5, 6, 7, 8)),),
            params=SamplingParams(max_tokens=0, temperature=0.0),
            streamed=bool(number % 2),
        ),
        arrived_at=trio.current_time(),
    )
    answer = Answer()
    response = await service.open(request)
    try:
        while events := await response.next_events():
            answer.events += events
    finally:
        response.close()
    return answer


async def test_a_service_with_threads_and_a_file(tmp_path):
    settings = file_settings(tmp_path)
    service = service_of(settings)
    answers: list[Answer] = []

    async def one(number: int) -> None:
        answers.append(await ask(service, number))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            await until_ready(service)
            limiter = trio.CapacityLimiter(6)
            async with trio.open_nursery() as askers:
                for number in range(60):

                    async def bounded(number: int = number) -> None:
                        async with limiter:
                            await one(number)

                    askers.start_soon(bounded)
            await service.drain(trio.current_time() + PATIENCE_S)
            nursery.cancel_scope.cancel()
    assert [answer.text() for answer in answers] == ["the quick brown fox"] * 60
    statistics = service.statistics().ledger
    assert (statistics.open, statistics.pending, statistics.settled_total) == (0, 0, 60)
    assert statistics.commits_total < 120
    store = Store(tmp_path / "ledger.sqlite3", "afterwards")
    assert store.recovered == 0
    rows = connection(store).execute("SELECT outcome, completion_tokens FROM requests").fetchall()
    assert rows == [("ok", len(answers[0].tokens()))] * 60
    store.close()


async def test_a_model_that_cannot_be_loaded_ends_the_service_with_its_reason(tmp_path):
    settings = file_settings(tmp_path)

    def broken(_):
        raise ModelError("model_not_found", "/nowhere/large does not exist")

    factories = {
        "small": [lambda _: Engine(FakeRunner(), byte_level_tokenizer(), settings.engines["small"])],
        "large": [broken],
    }
    service = Service(settings, factories, texts={name: model_text() for name in settings.engines})
    with (
        trio.fail_after(PATIENCE_S),
        pytest.raises(EngineLoadFailed, match="engine 'large' cannot be loaded: /nowhere/large"),
    ):
        await service.run()
    assert service.readiness().engines["large"].state == "failed"


async def test_a_missing_model_directory_is_said_before_anything_starts(tmp_path):
    with pytest.raises(EngineLoadFailed, match=r"tokenizer\.json"):
        Service(file_settings(tmp_path), {})


@pytest.mark.parametrize("name", ["no/such/folder/ledger.sqlite3", "text.sqlite3"])
async def test_a_ledger_that_cannot_be_opened_ends_the_service(tmp_path, name):
    (tmp_path / "text.sqlite3").write_text("this is a text, and no database")
    settings = settings_of(CONFIG.replace(":memory:", str(tmp_path / name)))
    from actors.kernel.errors import ServiceFailed

    with trio.fail_after(PATIENCE_S), pytest.raises(ServiceFailed, match=f"the ledger cannot be opened: .*{name}"):
        await service_of(settings).run()


async def test_long_work_is_done_beside_the_loop():
    workers = RealWorkerThreads()
    assert await workers.run_in_thread(lambda: threading.current_thread() is threading.main_thread()) is False


async def test_long_work_goes_by_tier_and_owner_and_the_services_own_waits_for_none():
    work, hold, order = LongWork(at_once=1), threading.Event(), []

    async def do(name: str, work_for: WorkFor | None, job=lambda: None) -> None:
        await work.run(job, work_for)
        order.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(do, "held", WorkFor("a"), hold.wait)
        await wait_all_tasks_blocked(0.01)
        given_up = trio.CancelScope()

        async def give_up() -> None:
            with given_up:
                await do("given up", WorkFor("b"))

        nursery.start_soon(give_up)
        for owner, tiers_above in (("a", 1), ("a", 1), ("b", 1), ("c", 0)):
            await wait_all_tasks_blocked(0.01)
            nursery.start_soon(do, f"{owner}{tiers_above}", WorkFor(owner, tiers_above))
        await wait_all_tasks_blocked(0.01)
        given_up.cancel()
        await work.run(lambda: None)
        assert order == []
        hold.set()
    assert order == ["held", "c0", "a1", "b1", "a1"]
    assert await work.run(lambda: 7, WorkFor("a")) == 7
