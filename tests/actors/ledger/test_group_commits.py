"""What the ledger's actor asks of its file, and when, move by move: the test is the file."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from actors.kernel.actor import Mailbox, Reply
from actors.kernel.errors import ServiceFailed
from actors.kernel.supervisor import Child, Supervisor
from actors.kernel.timers import TICK_S, TimerLoop, TimerWheel
from actors.ledger.ledger import Ledger, LedgerState
from actors.ledger.store import (
    Committed,
    LedgerBatch,
    Opened,
    Reopened,
    Store,
    StoreClosed,
    StoreFailed,
    StoreFailing,
)
from actors.protocol.ledger import (
    CloseEntry,
    Delivered,
    EntryClosing,
    EntryProgress,
    Flush,
    LedgerEntry,
    LedgerMessage,
    OpenEntry,
    WriteRollBack,
)
from policies.rollout.experiment import RollBack

with contextlib.closing(Store(":memory:", "nobody")) as empty:
    NOTHING_SPENT = empty.spent(0.0)
LINGER_S = 0.05


def line(number: int) -> LedgerEntry:
    return LedgerEntry(number, f"r{number}", "alice", "small", "route", 10, 100, 0.5)


def closing(number: int, cost: float = 0.25) -> EntryClosing:
    return EntryClosing(number, "alice", "small", "ok", "asked_for", 10, 5, 1, cost)


class File:
    """One life of the writer's thread."""

    def __init__(self, on_posts: Callable[[list[Any]], None]) -> None:
        self.sent: list[Any] = []
        self.joins: list[float] = []
        self.on_posts = on_posts
        self.abandoned = False

    def send(self, command: Any) -> None:
        self.sent.append(command)

    def abandon(self) -> None:
        self.abandoned = True

    async def join(self, timeout_s: float) -> bool:
        self.joins.append(timeout_s)
        await trio.lowlevel.checkpoint()
        return True

    async def says(self, *posts: Any) -> None:
        self.on_posts(list(posts))
        await wait_all_tasks_blocked()

    def numbers(self) -> list[list[int]]:
        """Of the lines and closings in each batch."""
        return [[each.entry_id for each in batch.lines] for batch in self.sent if isinstance(batch, LedgerBatch)]


class LedgerUnderTest:
    """The ledger's actor under supervision, and all lives of its file."""

    def __init__(self) -> None:
        self.files: list[File] = []
        self.spent: list[Any] = []
        self.books = LedgerState()
        self.mailbox: Mailbox[LedgerMessage] = Mailbox("ledger", 4096)
        self.timers = TimerWheel()
        self.delivered: dict[int, Delivered] = {}
        make = lambda: Ledger(  # noqa: E731
            self.mailbox,
            self.books,
            "file",
            workers=self,
            timers=self.timers,
            on_spent=self.spent.append,
            delivered=self.delivered.get,
        )
        self.supervisor = Supervisor(
            [Child("ledger", make, self.mailbox), Child("timers", lambda: TimerLoop(self.timers))], chance=lambda: 0.0
        )

    def store(self, path: str, on_posts: Callable[[list[Any]], None]) -> File:
        assert path == "file"
        self.files.append(File(on_posts))
        return self.files[-1]

    @property
    def file(self) -> File:
        return self.files[-1]

    async def book(self, *numbers: int) -> list[Reply[None]]:
        replies = [Reply[None]() for _ in numbers]
        for number, reply in zip(numbers, replies, strict=True):
            self.mailbox.put_nowait(OpenEntry(line(number), reply))
        await wait_all_tasks_blocked()
        return replies

    async def close(self, *numbers: int) -> None:
        for number in numbers:
            self.mailbox.put_deferred(CloseEntry(closing(number)))
        await wait_all_tasks_blocked()


@asynccontextmanager
async def ledger(*, opened: bool = True) -> AsyncIterator[LedgerUnderTest]:
    async with trio.open_nursery() as nursery:
        made = LedgerUnderTest()
        await nursery.start(made.supervisor.run)
        await wait_all_tasks_blocked()
        if opened:
            await made.file.says(Opened(0, NOTHING_SPENT))
        yield made
        nursery.cancel_scope.cancel()


async def test_nothing_is_sent_before_the_file_is_open(autojump_clock):
    async with ledger(opened=False) as made:
        replies = await made.book(1, 2)
        await trio.sleep(1)
        assert made.file.sent == []
        assert (made.books.statistics().pending, made.books.statistics().open) == (2, 2)
        before = trio.current_time()
        await made.file.says(Opened(3, NOTHING_SPENT))
        assert made.file.numbers() == [[1, 2]]
        assert trio.current_time() == before
        assert not any(reply.settled for reply in replies)
        await made.file.says(Committed())
        assert all(reply.settled for reply in replies)
        found = made.books.statistics()
        assert (found.recovered_total, found.commits_total, found.pending, found.open) == (3, 1, 0, 2)
        assert made.supervisor.restarts["ledger"] == 0


@pytest.mark.parametrize(("recovered", "told"), [(0, []), (3, [3])])
async def test_rows_that_a_crash_left_are_logged(autojump_clock, recovered, told):
    with capture_logs() as logs:
        async with ledger(opened=False) as made:
            await made.file.says(Opened(recovered, NOTHING_SPENT))
    assert [entry["rows"] for entry in logs if entry["event"] == "ledger_recovered"] == told


async def test_while_one_group_is_committed_the_next_one_gathers(autojump_clock):
    async with ledger() as made:
        first = await made.book(1)
        assert made.file.numbers() == [[1]]
        later = await made.book(2, 3)
        await made.close(1)
        await trio.sleep(1)
        # So long ago that it need not wait for others of its kind.
        await made.close(2)
        assert made.file.numbers() == [[1]]
        await made.file.says(Committed())
        assert made.file.numbers() == [[1], [2, 3, 1]]
        assert (first[0].settled, later[0].settled) == (True, False)
        await made.file.says(Committed())
        assert all(reply.settled for reply in later)
        await trio.sleep(1)
        assert made.file.numbers() == [[1], [2, 3, 1], [2]]


async def test_an_entry_that_somebody_waits_for_is_written_at_once(autojump_clock):
    async with ledger() as made:
        await made.book(1)
        await made.file.says(Committed())
        before = trio.current_time()
        await made.book(2)
        assert (made.file.numbers(), trio.current_time()) == ([[1], [2]], before)


async def test_what_one_group_has_no_place_for_follows_at_once_if_somebody_waits(autojump_clock, monkeypatch):
    monkeypatch.setattr("actors.ledger.ledger._GROUP", 3)
    async with ledger(opened=False) as made:
        await made.book(1, 2, 3, 4)
        await made.close(1)
        await made.file.says(Opened(0, NOTHING_SPENT))
        before = trio.current_time()
        await made.file.says(Committed())
        assert (made.file.numbers(), trio.current_time()) == ([[1, 2, 3], [4]], before)


async def test_closings_alone_wait_for_company_but_not_for_long(autojump_clock):
    async with ledger() as made:
        await made.book(1, 2)
        await made.file.says(Committed())
        # Until the watch that the open lines keep has come and gone.
        await trio.sleep(10)
        await made.close(1)
        assert made.file.numbers() == [[1, 2]]
        await trio.sleep(2 * LINGER_S + 2 * TICK_S)
        assert made.file.numbers() == [[1, 2], [1]]
        await made.file.says(Committed())
        # An entry that somebody waits for does not wait until more is written than itself.
        await made.close(2)
        await made.book(3)
        assert made.file.numbers() == [[1, 2], [1], [3]]
        await made.file.says(Committed())
        await trio.sleep(2 * LINGER_S + 2 * TICK_S)
        assert made.file.numbers() == [[1, 2], [1], [3], [2]]


async def test_closings_are_written_although_entries_come_all_the_time(autojump_clock):
    async with ledger() as made:
        await made.book(1)
        await made.file.says(Committed())
        await made.close(1)
        began = trio.current_time()
        for number in range(2, 100):
            await made.book(number)
            await made.file.says(Committed())
            if any(1 in numbers for numbers in made.file.numbers()[1:]):
                break
            await trio.sleep(0.005)
        assert trio.current_time() - began < 2 * LINGER_S + 2 * TICK_S


@pytest.mark.parametrize("every_s", [0.005, 0.02, 0.03, 0.3])
async def test_what_a_long_answer_has_delivered_is_noted_however_often_others_come(autojump_clock, every_s):
    async with ledger() as made:
        await made.book(1)
        await made.file.says(Committed())
        made.delivered[1] = Delivered(10, 7, 0.5)
        for number in range(2, 2 + int(12 / every_s)):
            await made.book(number)
            await made.close(number)
            await made.file.says(Committed())
            await trio.sleep(every_s)
        written = [each for batch in made.file.sent for each in batch.lines]
        assert written.count(EntryProgress(1, 10, 7, 0.5)) in {2, 3}


async def test_another_file_gets_all_entries_without_an_end(autojump_clock):
    async with ledger() as made:
        await made.book(1, 2, 3, 4)
        await made.file.says(Committed())
        await made.close(1)
        await made.file.says()
        await trio.sleep(2 * LINGER_S + 2 * TICK_S)
        # The end of 1 is in hand, that of 2 waits, 3 and 4 are open, and 5 is new.
        await made.close(2)
        await made.book(5)
        assert made.file.numbers() == [[1, 2, 3, 4], [1]]
        await made.file.says(StoreFailing("it was moved or deleted"), Reopened(is_other=True), Committed())
        *_, batch = made.file.sent
        assert sorted([each.entry_id for each in batch.lines if isinstance(each, LedgerEntry)]) == [1, 2, 3, 4, 5]
        await made.file.says(Committed())
        await trio.sleep(2 * LINGER_S + 2 * TICK_S)
        ends = [each.entry_id for batch in made.file.sent[2:] for each in batch.lines if isinstance(each, EntryClosing)]
        assert sorted(ends) == [1, 2]
        assert made.books.statistics().unwritten_cost == 0.0
        assert not made.books.ending or set(made.books.ending) == {2}


@pytest.mark.parametrize("how", ["a new life", "the end"])
async def test_closings_do_not_wait_for_company(autojump_clock, how):
    async with ledger() as made:
        await made.book(1, 2)
        await made.file.says(Committed())
        await made.close(1)
        if how == "a new life":
            await made.file.says(StoreFailed("disk I/O error"))
            await trio.sleep(1)
            await made.file.says(Opened(0, NOTHING_SPENT))
            # Nobody knows whether it is the same file: what has no end there is opened again, which changes no row.
            assert made.file.numbers() == [[2, 1, 1]]
    assert made.files[0].numbers() == [[1, 2], [1]]


async def test_nobody_looks_for_closings_when_no_line_is_open(autojump_clock):
    async with ledger() as made:
        await made.book(1)
        await made.file.says(Committed())
        await made.close(1)
        await trio.sleep(1)
        await made.file.says(Committed())
        await trio.sleep(1)
        assert made.books.statistics().open == 0
        assert len(made.timers) == 0


async def test_whoever_flushes_hears_of_all_that_came_before(autojump_clock):
    async with ledger() as made:
        await made.book(1)
        await made.file.says(Committed())
        await made.close(1)
        flushed: Reply[None] = Reply()
        made.mailbox.put_nowait(Flush(flushed))
        await wait_all_tasks_blocked()
        assert (made.file.numbers(), flushed.settled) == ([[1], [1]], False)
        await made.file.says(Committed())
        assert flushed.settled
        assert made.books.statistics().pending == 0


async def test_a_group_has_its_most(autojump_clock):
    async with ledger() as made:
        await made.book(*range(1000))
        await made.file.says(Committed())
        assert [len(numbers) for numbers in made.file.numbers()] == [512, 488]
        await made.file.says(Committed())
        # So many closings are company enough.
        await made.close(*range(511))
        made.mailbox.put_unbounded(CloseEntry(closing(600)))
        await wait_all_tasks_blocked()
        assert [len(numbers) for numbers in made.file.numbers()] == [512, 488, 512]


async def test_a_writer_that_failed_is_replaced_and_asked_for_the_same_again(autojump_clock):
    async with ledger() as made:
        first = await made.book(1, 2)
        second = await made.book(3)
        await made.file.says(StoreFailed("disk I/O error"))
        assert made.file.abandoned
        # The old one is told what it has not heard yet, should it still listen, and to close.
        assert made.file.numbers() == [[1, 2], [3]]
        assert isinstance(made.file.sent[-1], StoreClosed)
        await trio.sleep(1)
        assert len(made.files) == 2
        before = trio.current_time()
        await made.file.says(Opened(0, NOTHING_SPENT))
        assert trio.current_time() == before
        assert made.file.numbers() == [[1, 2, 3]]
        await made.file.says(Committed())
        assert all(reply.settled for reply in [*first, *second])
        assert (len(made.spent), made.supervisor.restarts["ledger"]) == (1, 1)


async def test_a_file_that_cannot_be_opened_ends_the_service(autojump_clock):
    made = LedgerUnderTest()

    async def refuses() -> None:
        await wait_all_tasks_blocked()
        await made.file.says(StoreFailed("no such folder"))

    with pytest.RaisesGroup(pytest.RaisesExc(ServiceFailed, match="no such folder")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuses)
            await made.supervisor.run()
    assert len(made.files) == 1


async def test_a_file_that_takes_nothing_is_seen(autojump_clock):
    async with ledger(opened=False) as made:
        now = trio.current_time()
        assert not made.books.is_blocked(now + 2)
        assert made.books.is_blocked(now + 2.01)
        await trio.sleep(5)
        await made.file.says(Opened(0, NOTHING_SPENT))
        assert not made.books.is_blocked(trio.current_time() + 100)
        await made.book(1)
        asked = trio.current_time()
        await trio.sleep(1)
        assert not made.books.is_blocked(asked + 2)
        assert made.books.is_blocked(asked + 2.01)
        await made.file.says(Committed())
        assert not made.books.is_blocked(trio.current_time() + 100)


async def test_the_totals(autojump_clock):
    async with ledger() as made:
        await made.book(1, 2, 3)
        for each in (closing(1), closing(2, cost=0.0), closing(3)):
            made.mailbox.put_unbounded(CloseEntry(each))
        await wait_all_tasks_blocked()
        assert made.books.usage == {("alice", "small", "ok"): (3, 30, 15)}
        assert made.books.costs == {("alice", "small"): 0.5}
        found = made.books.statistics()
        assert (found.open, found.settled_total, found.pending) == (0, 3, 6)


async def test_all_is_written_before_the_file_is_closed(autojump_clock):
    async with ledger() as made:
        await made.book(*range(600))
        await made.close(1, 2)
    assert [len(numbers) for numbers in made.file.numbers()] == [512, 90]
    assert isinstance(made.file.sent[-1], StoreClosed)
    assert made.file.abandoned
    assert made.file.joins == [5.0]


async def test_a_roll_back_is_written_at_once(autojump_clock):
    async with ledger() as made:
        await made.book(1)
        await made.file.says(Committed())
        before = trio.current_time()
        made.mailbox.put_unbounded(WriteRollBack(RollBack("try", "digest", "worse")))
        await wait_all_tasks_blocked()
        assert made.file.sent[-1] == LedgerBatch((RollBack("try", "digest", "worse"),))
        assert trio.current_time() == before
