"""The ledger's actor: group commits, one process a file, and a service that writes before it answers."""

import os
from collections import Counter, defaultdict
from contextlib import nullcontext
from functools import partial
from itertools import pairwise

import pytest
import trio

from actors.api.response import Done
from actors.kernel.actor import Mailbox, Reply
from actors.kernel.errors import ServiceFailed, ServiceStalled
from actors.kernel.supervisor import Child, Supervisor
from actors.kernel.timers import TimerLoop, TimerWheel
from actors.ledger.ledger import Ledger, LedgerState, ledger_lock
from actors.protocol.ledger import CloseEntry, Delivered, Flush, OpenEntry
from tests.actors.clock_workers import ClockWorkerThreads
from tests.actors.fakes import CONFIG, says, stage
from tests.actors.ledger.test_store import closing, line, rows


async def test_lines_gather_while_one_group_is_written(autojump_clock):
    async with trio.open_nursery() as nursery:
        workers, timers = ClockWorkerThreads(nursery), TimerWheel()
        mailbox = Mailbox("ledger", 100)
        books = LedgerState()
        supervisor = Supervisor(
            [
                Child(
                    "ledger",
                    lambda: Ledger(mailbox, books, ":memory:", workers=workers, timers=timers, on_spent=print),
                    mailbox,
                )
            ]
        )
        await nursery.start(supervisor.run)
        replies = [Reply() for _ in range(20)]
        for number, reply in enumerate(replies):
            mailbox.put_nowait(OpenEntry(line(number), reply))
        for reply in replies:
            await reply.wait()
        for number in range(20):
            mailbox.put_unbounded(CloseEntry(closing(number)))
        flushed = Reply()
        mailbox.put_unbounded(Flush(flushed))
        await flushed.wait()
        assert books.statistics().commits_total <= 3
        assert len(rows(workers.store_file)) == 20
        assert books.usage["alice", "small", "ok"] == (20, 200, 100)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("entries", [1, 30, 1000])
async def test_open_entries_are_noted_in_turn_and_each_within_five_seconds(autojump_clock, entries):
    async with trio.open_nursery() as nursery:
        workers, timers = ClockWorkerThreads(nursery), TimerWheel()
        mailbox, books = Mailbox("ledger", 2000), LedgerState()
        noted: dict[int, list[float]] = defaultdict(list)

        def delivered(entry_id: int) -> Delivered | None:
            noted[entry_id].append(trio.current_time())
            return None if entry_id == 0 else Delivered(10, len(noted[entry_id]), 0.5)

        def make() -> Ledger:
            return Ledger(
                mailbox, books, ":memory:", workers=workers, timers=timers, on_spent=print, delivered=delivered
            )

        children = [Child("ledger", make, mailbox), Child("timers", lambda: TimerLoop(timers))]
        await nursery.start(Supervisor(children).run)
        for number in range(entries):
            mailbox.put_unbounded(OpenEntry(line(number), Reply()))
        await trio.sleep(21)
        assert set(noted) == set(range(entries))
        for times in noted.values():
            assert 4 <= len(times) <= 5
            assert max(after - before for before, after in pairwise(times)) < 5.2
        assert max(Counter(at for times in noted.values() for at in times).values()) <= entries / 50 + 1
        mailbox.put_unbounded(CloseEntry(closing(entries - 1)))
        await trio.sleep(6)
        before = len(noted[entries - 1])
        await trio.sleep(12)
        assert len(noted[entries - 1]) == before
        nursery.cancel_scope.cancel()
    found = {number: completion for number, _, _, completion in rows(workers.store_file)}
    assert found[entries - 1] == 5
    if entries > 1:
        assert found[0] is None
        assert found[1] == len(noted[1])


async def test_a_running_stream_is_noted_with_what_its_client_has_and_a_whole_answer_is_not(autojump_clock):
    async with stage({"small": says("okay then")}) as service:
        service.worker("small").step_s = 2.0
        async with trio.open_nursery() as nursery:
            for streamed in (True, False):
                nursery.start_soon(partial(service.ask, "small", streamed=streamed))
            await trio.sleep(11.5)
            streaming, whole = service.row("r1"), service.row("r2")
            if streaming["completion_tokens"] is None:
                streaming, whole = whole, streaming
            assert 0 < streaming["completion_tokens"] <= 5
            assert (streaming["prompt_tokens"], streaming["closed_at"]) == (4, None)
            assert whole["completion_tokens"] is None
        await service.assert_clean()
        assert {row["completion_tokens"] for row in service.rows().values()} == {6}


async def test_a_writer_that_fails_loses_nothing(autojump_clock):
    async with stage({"small": says("ok")}) as service:
        service.workers.ledger_errors.append("disk I/O error")
        answer = await service.ask("small")
        assert answer.text() == "ok"
        await service.assert_clean()
        assert service.row("r1")["outcome"] == "ok"
        assert service.restarts["ledger"] == 1


async def test_no_content_is_handed_out_before_its_line_is_committed(autojump_clock):
    async with stage({"small": says("ok")}) as service:
        response = await service.open("small")
        commit, committed = service.workers.store_file.commit, []
        service.workers.store_file.commit = lambda batch: committed.append(commit(batch))
        assert service.service.statistics().ledger.commits_total <= 1
        await response.next_events()
        assert service.row("r1")["closed_at"] is None
        response.close()


async def test_what_came_while_stopping_is_still_written(autojump_clock):
    async with trio.open_nursery() as nursery:
        workers, timers = ClockWorkerThreads(nursery), TimerWheel()
        mailbox = Mailbox("ledger", 100)
        supervisor = Supervisor(
            [
                Child(
                    "ledger",
                    lambda: Ledger(mailbox, LedgerState(), ":memory:", workers=workers, timers=timers, on_spent=print),
                    mailbox,
                )
            ]
        )
        await nursery.start(supervisor.run)
        await trio.sleep(1)
        mailbox.put_unbounded(OpenEntry(line(1), Reply()))
        mailbox.put_unbounded(CloseEntry(closing(1)))
        nursery.cancel_scope.cancel()
    assert rows(workers.store_file) == [(1, "ok", 10, 5)]


async def test_while_the_file_is_locked_nothing_is_handed_out_and_nothing_restarts(autojump_clock):
    settings = CONFIG.replace(
        'use = { ladder = "small-first" }', 'use = { ladder = "small-first" }\ndeadlines = { ttft = "4s" }'
    )
    async with stage({"small": says("ok")}, settings=settings) as service:
        service.workers.lock()
        before = trio.current_time()
        refusal = (await service.ask("small")).refusal
        assert (refusal.body.status, refusal.body.code) == (503, "ledger_unavailable")
        assert trio.current_time() - before == pytest.approx(4, abs=0.1)
        readiness = service.service.readiness()
        assert (readiness.ready, readiness.state) == (False, "ledger_blocked")
        # By now it is known: nobody waits for it any more.
        before = trio.current_time()
        assert (await service.ask("small")).refusal.body.code == "ledger_unavailable"
        assert trio.current_time() == pytest.approx(before, abs=0.01)
        await trio.sleep(120)
        service.workers.unlock()
        await trio.sleep(0.1)
        assert service.service.readiness().ready
        assert isinstance((await service.ask("small")).end, Done)
        await service.assert_clean()
        assert service.row("r1")["outcome"] == "refused"
        assert service.quota_use().spent_total == 4 + 3
        assert service.restarts["ledger"] == 0


async def test_a_file_that_is_locked_for_a_moment_costs_a_moment(autojump_clock):
    async with stage({"small": says("ok")}) as service:
        service.workers.lock()
        answers = []

        async def ask() -> None:
            answers.append(await service.ask("small"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            assert service.service.readiness().ready
            service.workers.unlock()
        assert answers[0].text() == "ok"


async def test_a_drain_does_not_wait_for_a_locked_file_for_ever(autojump_clock):
    async with stage({"small": says("ok")}, clean=False) as service:
        response = await service.open("small")
        service.workers.lock()
        response.close()
        before = trio.current_time()
        await service.service.drain(before + 1)
        assert trio.current_time() - before < 7


def test_a_second_process_is_refused_until_the_first_one_ends(tmp_path):
    path = tmp_path / "usage.sqlite3"
    second = ledger_lock(path)
    with ledger_lock(path), pytest.raises(ServiceFailed, match=r"usage\.sqlite3 is kept by another process"):
        second.__enter__()
    with ledger_lock(path):
        pass


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(ServiceFailed, match=r"No such file or directory: .*absent"), ledger_lock(tmp_path / "absent/x"):
        pass


def test_in_memory_nothing_is_locked():
    with ledger_lock(":memory:"), ledger_lock(":memory:"):
        pass


@pytest.mark.parametrize(("why", "stalled"), [("locked", False), ("disk is full", False), ("silent", True)])
async def test_a_commit_that_does_not_return_is_a_stall_and_one_that_fails_is_none(autojump_clock, why, stalled):
    async with stage({"small": says("ok")}, clean=False) as service:
        service.workers.lock("" if why == "locked" else why)
        if stalled:
            service.workers.locked = [lambda: None]  # the file says nothing at all
        await service.ask("small")
        service.service.check_progress()
        await trio.sleep(310)
        with pytest.raises(ServiceStalled, match="300 s") if stalled else nullcontext():
            service.service.check_progress()
        service.workers.unlock()


def test_a_lock_is_handed_over(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    with ledger_lock(path) as first:
        passed = os.dup(first)
        with ledger_lock(path, passed):
            pass
        with pytest.raises(ServiceFailed, match="kept by another process"), ledger_lock(path):
            pass
    passed_to_another = os.open(tmp_path / "other.lock", os.O_RDWR | os.O_CREAT)
    with ledger_lock(path, passed_to_another) as own:
        assert os.path.samestat(os.fstat(own), path.with_name("ledger.sqlite3.lock").stat())
