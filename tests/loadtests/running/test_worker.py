"""A worker against a real socket: the times it keeps, and what it counts."""

import time

import pytest
import trio
import trio.testing

from config.model.table import Seconds
from loadtests.model.lengths import Lengths, PauseTimes, SessionSettings
from loadtests.model.run_record import Measures
from loadtests.model.scenario import Arrivals, LoadTarget, RatePhase, RequestKind, Scenario
from loadtests.running.progress import WorkerProgress, together
from loadtests.running.tally import WorkerTally, merge_tallies
from loadtests.running.verdict import judge, totals_of
from loadtests.running.worker import Worker, WorkerShare, part_of
from tests.loadtests.scripted_server import Conversation, Script, events, serving
from tests.patience import PATIENCE_S


async def whole(conversation: Conversation) -> None:
    await conversation.stream_events(events())


async def run(script: Script, arrivals: Arrivals, *, duration: float, **more) -> tuple[WorkerTally, list[Conversation]]:
    async with serving(script) as server:
        scenario = Scenario(
            schema=1,
            duration=Seconds(duration),
            warm_up=Seconds(0),
            target=LoadTarget(url=server.url),
            arrivals=arrivals,
            **more,
        )
        tally = await Worker(WorkerShare(scenario, {}), lambda _: None).run(time.perf_counter())
        return tally, server.asked


async def test_a_stall_of_the_server_is_counted_from_the_intended_times() -> None:
    """Coordinated omission: one client at a time asks nothing while the server stalls, and so hides the stall."""
    stall_s = 1.6

    def stalling() -> Script:
        free = trio.Event()
        stalled = False

        async def script(conversation: Conversation) -> None:
            nonlocal stalled
            if conversation.number == 3:
                stalled = True
                await trio.sleep(stall_s)
                free.set()
            elif stalled:
                await free.wait()
            await whole(conversation)

        return script

    tally, _ = await run(stalling(), Arrivals(kind="constant", rate=50), duration=2.0)
    open_loop = totals_of(tally.groups).latencies
    tally, _ = await run(stalling(), Arrivals(kind="closed", clients=1), duration=2.0)
    closed_loop = totals_of(tally.groups).latencies
    late = 1 - open_loop.ttft.share_within(stall_s / 4)
    hidden = 1 - closed_loop.ttft.share_within(stall_s / 4)
    assert late > 0.25  # of the fifty a second, those of more than a quarter of a second
    assert hidden < late / 3


async def test_requests_that_are_due_at_once_are_sent_at_once() -> None:
    phases = (RatePhase(lasts=Seconds(0.1), rate=1000), RatePhase(lasts=Seconds(0.5), rate=0))
    tally, asked = await run(whole, Arrivals(kind="gamma", burstiness=20, phases=phases), duration=0.6)
    sent = tally.lag.sending
    assert sent.count == len(asked) > 0
    assert sorted(row.number for row in tally.rows) == list(range(len(asked)))
    assert 0 < tally.lag.busiest <= 1.2


async def test_the_wait_for_a_place_is_counted() -> None:
    async def slow(conversation: Conversation) -> None:
        await trio.sleep(0.05)
        await whole(conversation)

    tally, _ = await run(slow, Arrivals(kind="constant", rate=50, max_in_flight=1), duration=0.2)
    latencies = totals_of(tally.groups).latencies
    assert latencies.place.count >= 8
    assert latencies.ttft.max_s > 4 * latencies.ttft_service.min_s
    assert latencies.ttft.max_s >= 9 * 0.05 - 0.2


async def test_turns_of_a_session_repeat_what_was_said() -> None:
    tally, asked = await run(
        whole,
        Arrivals(kind="constant", rate=10),
        duration=0.1,
        mix=(RequestKind(session="s", prompt=Lengths(exactly=2)),),
        sessions={"s": SessionSettings(turns=Lengths(exactly=3), think=PauseTimes(exactly=Seconds(0.001)))},
    )
    roles = [[message["role"] for message in each.body["messages"]] for each in asked]
    assert roles[:2] == [["user"], ["user", "assistant", "user"]]
    assert asked[1].body["messages"][1]["content"] == "w0 w1 w2 "
    assert [row.turn for row in tally.rows] == list(range(len(roles)))
    assert {row.session for row in tally.rows} == {0}


async def test_a_worker_that_is_stopped_has_what_it_measured() -> None:
    async def never(conversation: Conversation) -> None:
        if conversation.number < 3:
            await whole(conversation)
        else:
            await trio.sleep_forever()

    stopping = trio.Event()

    def report(progress: WorkerProgress) -> None:
        if progress.ok == 2 and progress.in_flight:
            stopping.set()

    async with serving(never) as server:
        scenario = Scenario(
            schema=1,
            duration=Seconds(3600),
            warm_up=Seconds(0),
            target=LoadTarget(url=server.url),
            arrivals=Arrivals(kind="constant", rate=50),
        )
        worker = Worker(WorkerShare(scenario, {}), report)
        found: list[WorkerTally] = []

        async def work() -> None:
            found.append(await worker.run(time.perf_counter()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await stopping.wait()
            worker.stop()
    totals: Measures = totals_of(found[0].groups)
    assert (totals.ok, totals.failed) == (2, 0)
    assert totals.left >= 1


async def test_a_run_may_be_stopped_before_its_time_has_come() -> None:
    worker = Worker(WorkerShare(Scenario(schema=1, arrivals=Arrivals(rate=5.0)), {}), lambda _: None)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            found: list[WorkerTally] = []

            async def work() -> None:
                found.append(await worker.run(time.perf_counter() + 3600))

            nursery.start_soon(work)
            await trio.testing.wait_all_tasks_blocked()
            worker.stop()
    assert (found[0].requests, found[0].lag.busiest) == (0, 0.0)


async def test_a_worker_that_is_slowed_is_not_valid() -> None:
    def busy(deadline: float) -> None:
        while time.perf_counter() < deadline:
            pass

    async with serving(whole) as server, trio.open_nursery() as nursery:

        async def hog() -> None:
            while True:  # the event loop has no time for anything else
                busy(time.perf_counter() + 0.05)
                await trio.lowlevel.checkpoint()

        nursery.start_soon(hog)
        scenario = Scenario(
            schema=1,
            duration=Seconds(0.5),
            warm_up=Seconds(0),
            target=LoadTarget(url=server.url),
            arrivals=Arrivals(kind="constant", rate=40),
        )
        tally = await Worker(WorkerShare(scenario, {}), lambda _: None).run(time.perf_counter())
        nursery.cancel_scope.cancel()
    verdict = judge(scenario.lag, tally.lag, totals_of(tally.groups).latencies, [], cut_short=False)
    assert not verdict.valid
    assert "sends" in verdict.reasons[0]


async def test_workers_share_the_schedule() -> None:
    async with serving(whole) as server:
        scenario = Scenario(
            schema=1,
            duration=Seconds(0.2),
            warm_up=Seconds(0),
            target=LoadTarget(url=server.url),
            arrivals=Arrivals(kind="poisson", rate=100),
        )
        shares = [WorkerShare(scenario, {}, worker, 3) for worker in range(3)]
        tallies = [await Worker(share, lambda _: None).run(time.perf_counter()) for share in shares]
    numbers = [row.number for row in merge_tallies(tallies, 1000, "s").rows]
    assert sorted(numbers) == list(range(len(numbers)))


@pytest.mark.parametrize(("count", "workers"), [(10, 3), (2, 4), (0, 2)])
def test_parts_add_up(count: int, workers: int) -> None:
    scenario = Scenario(schema=1)
    assert sum(part_of(count, WorkerShare(scenario, {}, worker, workers)) for worker in range(workers)) == count


def test_progress_of_several_workers() -> None:
    one, other = WorkerProgress(at_s=1, sent=2, ok=1), WorkerProgress(at_s=2, sent=3, in_flight=2)
    one.ttft.add([0.1])
    whole = together([one, other])
    assert (whole.at_s, whole.sent, whole.ok, whole.in_flight, whole.ttft.count) == (2, 5, 1, 2, 1)
