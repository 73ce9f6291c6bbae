"""A ledger's file that cannot be written: whatever fails at whatever statement, each entry is in it once at the end."""

import contextlib
import errno
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.api.response import Done
from actors.kernel.actor import Reply
from actors.ledger.ledger import LedgerState
from actors.ledger.store import (
    Committed,
    LedgerBatch,
    Opened,
    Reopened,
    Store,
    StoreBusy,
    StoreClosed,
    StoreFailed,
    StoreFailing,
    StoreRetries,
    keep_books,
)
from actors.protocol.ledger import EntryClosing, LedgerEntry
from config.model.settings import LedgerSettings
from policies.rollout.experiment import RollBack
from tests.actors.fakes import CONFIG, says, stage

BATCHES = (
    LedgerBatch((LedgerEntry(1, "r1", "acme", "m", "route", 10, 20, 0.5),)),
    LedgerBatch(
        (
            LedgerEntry(2, "r2", "acme", "m", "route", 10, 20, 0.5),
            EntryClosing(1, "acme", "small", "ok", "", 10, 4, 0, 0.25),
            RollBack("e", "text", "why"),
        )
    ),
    LedgerBatch((EntryClosing(2, "acme", "small", "gone", "", 10, 4, 2, 0.25),)),
)


def failure(name: str, code: int) -> sqlite3.Error:
    kind = sqlite3.DatabaseError if name == "malformed" else sqlite3.OperationalError
    error = kind(name)
    error.sqlite_errorcode = code
    return error


ERRORS: dict[str, Callable[[], Exception]] = {
    "full": partial(failure, "database or disk is full", sqlite3.SQLITE_FULL),
    "I/O": partial(failure, "disk I/O error", sqlite3.SQLITE_IOERR),
    "read-only": partial(failure, "attempt to write a readonly database", sqlite3.SQLITE_READONLY),
    "cannot open": partial(failure, "unable to open database file", sqlite3.SQLITE_CANTOPEN),
    "malformed": partial(failure, "malformed", sqlite3.SQLITE_CORRUPT),
    "locked": partial(failure, "database is locked", sqlite3.SQLITE_BUSY),
    "system": lambda: OSError(errno.EIO, "Input/output error"),
}
STATEMENTS = (
    "BEGIN IMMEDIATE", "\nINSERT OR IGNORE INTO requests", "\nWITH closing", "INSERT OR IGNORE INTO rolled_back",
    "COMMIT",
)  # fmt: skip


class Faulty(sqlite3.Connection):
    """Fails `times` times at statements that begin with `at`."""

    at = ""
    times = 0
    error: Callable[[], Exception]

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if Faulty.times and sql.startswith(Faulty.at):
            Faulty.times -= 1
            raise Faulty.error()
        return super().execute(sql, *parameters)


def faulty(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Faulty)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)


def written(
    open_store: Callable[[], Store], before: Callable[[int], None] = lambda _: None, **options: Any
) -> list[Any]:
    """What is posted while all batches are written; `before` is called with the number of each."""
    posts: list[Any] = []
    commands = iter([*enumerate(BATCHES), (len(BATCHES), StoreClosed())])

    def receive() -> LedgerBatch | StoreClosed:
        number, command = next(commands)
        before(number)
        return command

    keep_books(open_store, receive, posts.append, **options)
    return posts


def assert_each_is_there_once(path: Path) -> None:
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT number, outcome, completion_tokens, cost FROM requests ORDER BY number"
    ).fetchall()
    assert rows == [(1, "ok", 4, 0.25), (2, "gone", 4, 0.25)]
    # As quotas and budgets count them: 14 tokens, and 16 for whoever left; never twice.
    assert connection.execute("SELECT sum(tokens) FROM used").fetchone() == (30,)
    assert connection.execute("SELECT sum(cost) FROM spent").fetchone() == (0.5,)
    assert connection.execute("SELECT count(*) FROM rolled_back").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize("at", STATEMENTS, ids=[each.strip() for each in STATEMENTS])
@pytest.mark.parametrize("error", ERRORS)
def test_every_error_at_every_statement(tmp_path: Path, at: str, error: str) -> None:
    path = tmp_path / "ledger.sqlite3"
    Store(path, "life").close()
    Faulty.at, Faulty.times, Faulty.error = at, 0, ERRORS[error]

    def fails_from_now(number: int) -> None:
        if number == 0:
            Faulty.times = 3

    posts = written(lambda: Store(path, "life", connect=faulty), fails_from_now)
    kinds = [type(post) for post in posts]
    assert kinds.count(StoreBusy if error == "locked" else StoreFailing) >= 1
    assert kinds.count(Committed) == len(BATCHES)
    assert StoreFailed not in kinds
    assert Faulty.times == 0
    assert_each_is_there_once(path)


def test_an_error_is_reported_once_for_each_reason(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    Store(path, "life").close()
    reasons = iter([ERRORS[name]() for name in ("locked",) * 3 + ("full",) * 4 + ("I/O",) * 2])
    Faulty.at, Faulty.times, Faulty.error = "COMMIT", 0, partial(next, reasons)

    def fails_from_now(number: int) -> None:
        Faulty.times = 9 if number == 0 else 0

    posts = written(lambda: Store(path, "life", connect=faulty), fails_from_now)
    found = [post for post in posts if isinstance(post, StoreBusy | StoreFailing)]
    assert found == [StoreBusy(), StoreFailing("database or disk is full"), StoreFailing("disk I/O error")]


def test_a_disk_that_is_full_by_sqlite_s_own_count(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    full = [True]

    def connect(name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        if path.stat().st_size and full[0]:
            connection.execute("PRAGMA max_page_count = 1")
            # What is written first takes more pages than there are.
            connection.execute("CREATE TEMP TABLE other (a)")
        return connection

    Store(path, "life").close()
    tries: list[Any] = []

    def post(what: Any) -> None:
        tries.append(what)
        if isinstance(what, StoreFailing):
            full[0] = False

    big = LedgerBatch(tuple(LedgerEntry(number, "r" * 900, "acme", "m", "route", 1, 1, 0.0) for number in range(50)))
    commands = iter([big, StoreClosed()])
    keep_books(lambda: Store(path, "life", connect=connect), lambda: next(commands), post, insists=True)
    assert [post.message for post in tries if isinstance(post, StoreFailing)] == ["database or disk is full"]
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM requests").fetchone() == (50,)
    connection.close()


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A real file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("a file system cannot be mounted here")
    try:
        path, filler = folder / "ledger.sqlite3", folder / "filler"
        Store(path, "life").close()

        def fill(number: int) -> None:
            if number == 1:
                with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(1024))

        posts: list[Any] = []

        def post(what: Any) -> None:
            posts.append(what)
            if isinstance(what, StoreFailing):
                filler.unlink(missing_ok=True)

        commands = iter([*enumerate(BATCHES), (9, StoreClosed())])

        def receive() -> LedgerBatch | StoreClosed:
            number, command = next(commands)
            fill(number)
            return command

        keep_books(lambda: Store(path, "life"), receive, post)
        assert any(isinstance(each, StoreFailing) for each in posts)
        assert_each_is_there_once(path)
    finally:
        subprocess.run(["umount", str(folder)], check=False)


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_file_that_is_not_there_any_more(tmp_path: Path, how: str) -> None:
    path = tmp_path / "ledger.sqlite3"

    def goes(number: int) -> None:
        if number == 1:
            for each in list(tmp_path.glob("ledger.sqlite3*")):
                each.unlink() if how == "deleted" else each.rename(tmp_path / f"old{each.name}")

    posts = written(lambda: Store(path, "life"), goes)
    assert [type(post) for post in posts][:5] == [Opened, Committed, StoreFailing, Reopened, Committed]
    assert posts[2].message == f"{path} was moved or deleted"
    assert posts[3].is_other
    connection = sqlite3.connect(path)
    # The row of the first batch went with the file.
    assert connection.execute("SELECT number, outcome FROM requests").fetchall() == [(2, "gone")]
    connection.close()


def test_a_file_that_was_open_before_is_waited_for(tmp_path: Path) -> None:
    """The actor was restarted meanwhile."""
    path = tmp_path / "ledger.sqlite3"
    Store(path, "life").close()
    Faulty.at, Faulty.times, Faulty.error = "PRAGMA journal_mode", 3, ERRORS["I/O"]
    posts = written(lambda: Store(path, "life", connect=faulty), insists=True)
    kinds = [type(post) for post in posts if not isinstance(post, StoreRetries)]
    assert kinds[:2] == [StoreFailing, Opened]
    assert_each_is_there_once(path)
    Faulty.times = 3
    (failed,) = written(lambda: Store(path, "life", connect=faulty))
    assert failed == StoreFailed("the ledger cannot be opened: disk I/O error")
    Faulty.times = 0


def test_a_file_whose_sums_cannot_be_read_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    Store(path, "life").close()
    Faulty.at, Faulty.times, Faulty.error = "SELECT tenant, sum(cost)", 1, ERRORS["malformed"]
    (failed,) = written(lambda: Store(path, "life", connect=faulty))
    assert failed == StoreFailed("the ledger cannot be opened: malformed")
    # The actor was restarted: it is tried again.
    Faulty.times = 3
    posts = written(lambda: Store(path, "life", connect=faulty), insists=True)
    kinds = [type(post) for post in posts if not isinstance(post, StoreRetries)]
    assert kinds[:2] == [StoreFailing, Opened]
    assert_each_is_there_once(path)


def test_whatever_goes_wrong_in_a_commit_is_reported(tmp_path: Path) -> None:
    Faulty.at, Faulty.times, Faulty.error = "COMMIT", 0, lambda: UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates")

    def fails_from_now(number: int) -> None:
        Faulty.times = 1

    posts = written(lambda: Store(tmp_path / "ledger.sqlite3", "life", connect=faulty), fails_from_now)
    Faulty.times = 0
    assert isinstance(posts[-2], StoreFailed)
    assert "surrogates" in posts[-2].message


def test_a_new_file_that_fails_at_first_is_another_one_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    Faulty.at, Faulty.times, Faulty.error = (
        "SELECT request_id FROM requests WHERE closed_at IS NULL",
        0,
        ERRORS["locked"],
    )

    def goes(number: int) -> None:
        if number == 1:
            for each in list(tmp_path.glob("ledger.sqlite3*")):
                each.unlink()
            Faulty.times = 1

    posts = written(lambda: Store(path, "life", connect=faulty), goes)
    Faulty.times = 0
    assert [post.is_other for post in posts if isinstance(post, Reopened)] == [True]


def test_what_is_wrong_with_a_batch_is_not_tried_for_ever(tmp_path: Path) -> None:
    Faulty.at, Faulty.times, Faulty.error = "COMMIT", 0, lambda: sqlite3.IntegrityError("NOT NULL")

    def fails_from_now(number: int) -> None:
        Faulty.times = 1

    posts = written(lambda: Store(tmp_path / "ledger.sqlite3", "life", connect=faulty), fails_from_now)
    Faulty.times = 0
    assert isinstance(posts[-2], StoreFailed)


# --- the service ------------------------------------------------------------------------------------------------------

DISK = "database or disk is full"
CONTINUES = 'on_failure = "continue"\nunwritten = 6\n'
PRICES = "[prices]\nsmall = { input = 1_000_000, output = 1_000_000 }\n"


def config(policy: str) -> str:
    return CONFIG.replace('path = ":memory:"', f'path = ":memory:"\n{policy}') + PRICES


async def test_refuse_new_requests_and_finish_what_runs(autojump_clock: object) -> None:
    async with stage({"small": says("okay")}, settings=config("")) as service:
        running = await service.open("small")
        assert await running.next_events()
        service.workers.lock(DISK)
        # The first that comes finds out; it is refused at once, and not when its deadline passes.
        before = trio.current_time()
        refusal = (await service.ask("small")).refusal
        assert (refusal.body.status, refusal.body.code, refusal.body.retry_after_s) == (503, "ledger_unavailable", 1.0)
        assert service.service.statistics().ledger.failing
        for _ in range(20):
            assert (await service.ask("small")).refusal.body.code == "ledger_unavailable"
        assert trio.current_time() - before < 2
        assert service.service.readiness().state == "ledger_blocked"
        while not isinstance((await running.next_events())[-1], Done):
            pass
        await trio.sleep(600)
        service.workers.unlock()
        await trio.sleep(1)
        assert service.service.readiness().ready
        assert isinstance((await service.ask("small")).end, Done)
        await service.assert_clean()
        assert [service.row(f"r{number}")["outcome"] for number in (1, 2)] == ["ok", "refused"]
        assert service.restarts["ledger"] == 0


@pytest.mark.parametrize("failing", [DISK, ""], ids=["full", "locked"])
async def test_continue_within_the_bound(autojump_clock: object, failing: str) -> None:
    async with stage({"small": says("okay")}, settings=config(CONTINUES)) as service:
        service.workers.lock(failing)
        for _ in range(3):
            assert isinstance((await service.ask("small")).end, Done)
        await trio.sleep(3)
        # Three openings and three ends wait.
        assert service.service.statistics().ledger.pending == 6
        assert service.service.statistics().ledger.unwritten_cost > 0
        assert service.service.readiness().state == "ledger_blocked"
        assert (await service.ask("small")).refusal.body.code == "ledger_unavailable"
        service.workers.unlock()
        await trio.sleep(1)
        assert service.service.readiness().ready
        assert isinstance((await service.ask("small")).end, Done)
        await service.assert_clean()
        rows = [service.row(f"r{number}") for number in (1, 2, 3, 5)]
        assert [(row["outcome"], row["prompt_tokens"]) for row in rows] == [("ok", 4)] * 4
        statistics = service.service.statistics().ledger
        assert (statistics.pending, statistics.unwritten_cost, statistics.failing) == (0, 0.0, False)
        assert service.restarts["ledger"] == 0


async def test_a_drain_is_not_held_up(autojump_clock: object) -> None:
    for policy in ("", CONTINUES):
        async with stage({"small": says("okay")}, settings=config(policy), clean=False) as service:
            response = await service.open("small")
            service.workers.lock(DISK)
            before = trio.current_time()
            await service.service.drain(before + 1)
            response.close()
            assert trio.current_time() - before < 10


BOUNDS = [
    # on_failure, unwritten, unwritten_cost, entries that wait, money that waits, failing, blocked
    ("refuse", 9, None, 0, 0.0, False, False),
    ("refuse", 9, None, 1, 0.0, True, True),
    ("continue", 9, None, 8, 0.0, True, False),
    ("continue", 9, None, 9, 0.0, True, True),
    ("continue", 9, None, 9, 0.0, False, False),
    ("continue", 9, 0.5, 2, 0.4, True, False),
    ("continue", 9, 0.5, 2, 0.5, True, True),
    ("continue", 9, 0.0, 0, 0.0, True, True),
]


@pytest.mark.parametrize("row", BOUNDS)
def test_when_new_requests_are_refused(row: tuple[Any, int, float | None, int, float, bool, bool]) -> None:
    policy, most, money, entries, cost, failing, blocked = row
    state = LedgerState(LedgerSettings(on_failure=policy, unwritten=most, unwritten_cost=money))
    state.failure = DISK if failing else ""
    for number in range(entries):
        reserved = cost if number == 0 else 0.0
        state.add(LedgerEntry(number, "r", "acme", "m", "route", 1, 1, reserved), Reply())
    assert state.held == entries
    assert state.is_blocked(time.monotonic()) is blocked
    state.in_commit = list(state.waiting)
    state.waiting.clear()
    state.committed()
    assert (state.unwritten_cost, state.held) == (0.0, 0)
