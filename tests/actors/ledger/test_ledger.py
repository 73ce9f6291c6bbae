"""The books: group commits, crashes, and files that are not ours."""

import sqlite3
import time

import pytest
import trio

from actors.api.errors import LedgerFileError
from actors.api.response import Done
from actors.kernel.mailbox import Mailbox
from actors.kernel.reply import Reply
from actors.kernel.supervisor import Child, Supervisor
from actors.kernel.timers import TimerWheel
from actors.ledger.ledger import Ledger, LedgerState
from actors.ledger.store import _CLOSE, Committed, LedgerBatch, Opened, Store, StoreBusy, StoreClosed, keep_books
from actors.protocol.ledger import CloseEntry, EntryClosing, Flush, LedgerEntry, OpenEntry
from tests.actors.fakes import CONFIG, ClockLinks, says, stage


def line(number: int, reserved: int = 100) -> LedgerEntry:
    return LedgerEntry(number, f"r{number}", "alice", "small", "route", 10, reserved, 0.5, "thrifty")


def closing(number: int, completion: int = 5) -> EntryClosing:
    return EntryClosing(number, "alice", "small", "ok", "asked_for", 10, completion, 1, 0.25)


def rows(store: Store):
    return store._connection.execute(
        "SELECT number, outcome, prompt_tokens, completion_tokens FROM requests ORDER BY number"
    ).fetchall()


def test_rows_that_a_crash_left_open_are_charged_their_reservation(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    first = Store(path, "first")
    first.commit(LedgerBatch((line(1), line(2), closing(1))))
    # No close: the process is gone.
    second = Store(path, "second")
    assert second.recovered == 1
    assert rows(second) == [(1, "ok", 10, 5), (2, "crashed", 10, 90)]
    second.close()
    third = Store(path, "third")
    assert third.recovered == 0
    third.close()
    first.close()


def test_a_writer_that_is_replaced_in_the_same_life_leaves_open_rows_open(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    first = Store(path, "life")
    first.commit(LedgerBatch((line(1),)))
    second = Store(path, "life")
    assert second.recovered == 0
    second.commit(LedgerBatch((line(1), closing(1))))
    second.commit(LedgerBatch((closing(1, completion=77),)))
    assert rows(second) == [(1, "ok", 10, 5)]
    second.close()
    first.close()


def test_money_is_remembered_and_a_crash_costs_what_was_set_aside(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    first = Store(path, "first")
    first.commit(LedgerBatch((line(1), line(2), closing(1))))
    first.close()
    second = Store(path, "second")
    spent = second.spent(time.time())
    assert spent.by_tenant == {"alice": {"hour": 0.75, "day": 0.75, "month": 0.75}}
    assert spent.by_cascade == {"thrifty": 0.75}
    assert second.spent(time.time() + 40 * 86_400).by_tenant == {}
    second.close()


def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    Store(path, "before").close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "ALTER TABLE requests DROP COLUMN cost; ALTER TABLE requests DROP COLUMN reserved_cost; PRAGMA user_version = 1"
    )
    connection.close()
    store = Store(path, "now")
    store.commit(LedgerBatch((line(1), closing(1))))
    assert store.spent(time.time()).by_cascade == {"thrifty": 0.25}
    store.close()


def test_a_file_of_another_version_is_left_alone(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(LedgerFileError, match="version 7"):
        Store(path, "life")


async def test_lines_gather_while_one_group_is_written(autojump_clock):
    async with trio.open_nursery() as nursery:
        workers, timers = ClockLinks(nursery), TimerWheel()
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


async def test_a_writer_that_fails_loses_nothing(autojump_clock):
    async with stage({"small": says("ok")}) as service:
        service.workers.ledger_errors.append("disk I/O error")
        answer = await service.ask("small")
        assert answer.text() == "ok"
        await service.assert_clean()
        assert service.row("r1")["outcome"] == "ok"
        assert service.service._supervisor.restarts["ledger"] == 1


async def test_no_content_is_handed_out_before_its_line_is_committed(autojump_clock):
    async with stage({"small": says("ok")}) as service:
        response = await service.open("small")
        commit, committed = service.workers.store_file.commit, []
        service.workers.store_file.commit = lambda batch: committed.append(commit(batch))
        assert service.service._books.statistics().commits_total <= 1
        await response.next_events()
        assert service.row("r1")["closed_at"] is None
        response.close()


async def test_what_came_while_stopping_is_still_written(autojump_clock):
    async with trio.open_nursery() as nursery:
        workers, timers = ClockLinks(nursery), TimerWheel()
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


def test_closing_a_row_does_not_search_all_of_them():
    """A day's rows must not make the next commit slower."""
    store = Store(":memory:", "life")
    plan = store._connection.execute(f"EXPLAIN QUERY PLAN {_CLOSE}", ("[]", "life")).fetchall()
    assert any("number=? AND life=?" in step[3] for step in plan)
    store.close()


@pytest.mark.parametrize("held_at", ["opening", "writing"])
def test_a_locked_file_is_waited_for(tmp_path, monkeypatch, held_at):
    monkeypatch.setattr("actors.ledger.store._PATIENCE_MS", 0)
    path = tmp_path / "ledger.sqlite3"
    Store(path, "before").close()
    other = sqlite3.connect(path, isolation_level=None)
    posts = []
    commands = iter([LedgerBatch((line(1),)), StoreClosed()])

    def receive():
        command = next(commands)
        if held_at == "writing" and isinstance(command, LedgerBatch):
            other.execute("BEGIN IMMEDIATE")
        return command

    def post(what):
        posts.append(type(what))
        if isinstance(what, StoreBusy):
            other.execute("ROLLBACK")

    if held_at == "opening":
        other.execute("BEGIN IMMEDIATE")
    keep_books(lambda: Store(path, "life"), receive, post)
    at_opening = [StoreBusy, Opened, Committed, StoreClosed]
    assert posts == (at_opening if held_at == "opening" else [Opened, StoreBusy, Committed, StoreClosed])
    assert other.execute("SELECT number FROM requests").fetchall() == [(1,)]
    other.close()


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
        assert service.service._quota.statistics(0).tenants["anonymous"].spent_total == 4 + 3
        assert service.service._supervisor.restarts["ledger"] == 0


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
