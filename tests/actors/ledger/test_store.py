"""The ledger's file: what a crash leaves, files of other versions, files that somebody else holds."""

import sqlite3
import time

import pytest

from actors.api.errors import LedgerFileError
from actors.ledger.store import Committed, LedgerBatch, Opened, Store, StoreBusy, StoreClosed, keep_books
from actors.protocol.ledger import Delivered, EntryClosing, EntryProgress, LedgerEntry
from tests.actors.clock_workers import connection


def line(number: int, reserved: int = 100) -> LedgerEntry:
    return LedgerEntry(number, f"r{number}", "alice", "small", "route", 10, reserved, 0.5, "thrifty")


def closing(number: int, completion: int = 5) -> EntryClosing:
    return EntryClosing(number, "alice", "small", "ok", "asked_for", 10, completion, 1, 0.25)


def note(number: int, completion: int) -> EntryProgress:
    return EntryProgress(number, 10, completion, 0.125)


def rows(store: Store):
    return (
        connection(store)
        .execute("SELECT number, outcome, prompt_tokens, completion_tokens FROM requests ORDER BY number")
        .fetchall()
    )


LEFT = {
    # What the process that crashed has committed of the second request, batch by batch; what it is charged.
    "nothing was noted": ([], ("crashed", 0, 0, 0.0)),
    "noted": ([[note(2, 7)]], ("crashed", 10, 7, 0.125)),
    "noted twice": ([[note(2, 7)], [note(2, 30)]], ("crashed", 10, 30, 0.125)),
    "noted twice at once": ([[note(2, 7), note(2, 30)]], ("crashed", 10, 30, 0.125)),
    "another one noted": ([[note(3, 7)]], ("crashed", 0, 0, 0.0)),
    "noted, and ended": ([[note(2, 7)], [closing(2)]], ("ok", 10, 5, 0.25)),
    "noted and ended at once": ([[note(2, 7), closing(2)]], ("ok", 10, 5, 0.25)),
    "ended, and noted late": ([[closing(2)], [note(2, 7)]], ("ok", 10, 5, 0.25)),
}


@pytest.mark.parametrize("case", LEFT)
def test_rows_that_a_crash_left_open_are_charged_what_was_noted(case, tmp_path):
    batches, expected = LEFT[case]
    path = tmp_path / "ledger.sqlite3"
    first = Store(path, "first")
    first.commit(LedgerBatch((line(1), line(2), closing(1))))
    for batch in batches:
        first.commit(LedgerBatch(tuple(batch)))
    # No close: the process is gone.
    second = Store(path, "second")
    assert second.recovered == (expected[0] == "crashed")
    assert rows(second) == [(1, "ok", 10, 5), (2, *expected[:3])]
    assert second.spent(time.time()).by_tenant["alice"]["day"] == 0.25 + expected[3]
    second.close()
    third = Store(path, "third")
    assert third.recovered == 0
    third.close()
    first.close()


def test_what_was_delivered_of_a_kept_answer_is_charged_instead(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    first = Store(path, "first")
    first.commit(LedgerBatch((line(1), line(2), line(3), line(4), closing(1))))
    first.close()
    delivered = {"r1": Delivered(10, 99, 9.0), "r2": Delivered(10, 7, 0.125), "r3": Delivered()}
    second = Store(path, "second", delivered=lambda: delivered)
    assert second.recovered == 3
    assert rows(second) == [(1, "ok", 10, 5), (2, "crashed", 10, 7), (3, "crashed", 0, 0), (4, "crashed", 0, 0)]
    spent = second.spent(time.time())
    assert spent.by_tenant == {"alice": {"hour": 0.375, "day": 0.375, "month": 0.375}}
    second.close()
    third = Store(path, "third", delivered=lambda: pytest.fail("there is nothing to ask for"))
    assert third.recovered == 0
    third.close()


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


def test_money_is_remembered_and_that_of_a_crash_as_it_was_noted(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    first = Store(path, "first")
    first.commit(LedgerBatch((line(1), line(2), note(2, 7), closing(1))))
    first.close()
    second = Store(path, "second")
    spent = second.spent(time.time())
    assert spent.by_tenant == {"alice": {"hour": 0.375, "day": 0.375, "month": 0.375}}
    assert spent.by_cascade == {"thrifty": 0.375}
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


@pytest.mark.parametrize(("message", "rows"), [(note(1, 2), 1), (note(1, 2), 40), (closing(1), 1), (closing(1), 40)])
def test_writing_to_a_row_does_not_search_all_of_them(message, rows):
    """A day's rows must not make the next commit slower."""
    asked = []

    class Asked(sqlite3.Connection):
        def execute(self, sql, *parameters):
            asked.append((sql, *parameters))
            return super().execute(sql, *parameters)

    store = Store(":memory:", "life", connect=lambda path: sqlite3.connect(path, isolation_level=None, factory=Asked))
    store.commit(LedgerBatch((message,) * rows))
    statements = [each for each in asked if "UPDATE requests" in each[0] and "?, ?" in each[0]]
    assert len(statements) == (2 if rows == 40 else 1)
    for sql, parameters in statements:
        plan = connection(store).execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
        assert any("number=? AND life=?" in step[3] for step in plan)
    store.close()


@pytest.mark.parametrize("many", [1, 2, 31, 32, 33, 64, 512])
def test_a_commit_of_many_rows_leaves_each_with_its_own_values(many):
    store = Store(":memory:", "life")
    numbers = range(many)
    store.commit(LedgerBatch(tuple([full_line(number) for number in numbers])))
    store.commit(LedgerBatch(tuple([EntryProgress(number, number, 2 * number, number / 4) for number in numbers])))
    execute = connection(store).execute
    noted = "SELECT number, prompt_tokens, completion_tokens, cost FROM requests ORDER BY number"
    assert execute(noted).fetchall() == [(number, number, 2 * number, number / 4) for number in numbers]
    store.commit(LedgerBatch(tuple([full_closing(number) for number in numbers])))
    columns = (
        "life, request_id, tenant, model, route, reserved_tokens, reserved_cost, cascade, key, user, arm, tags, batch, "
        "rung, outcome, why, prompt_tokens, completion_tokens, discarded_tokens, cost, degraded"
    )
    found = execute(f"SELECT {columns} FROM requests ORDER BY number").fetchall()
    assert found == [
        (
            "life", f"r{n}", f"tenant {n}", "m?", "all", n + 1, n / 2, "thrifty", f"k{n}", "'; --", "try/b",
            f'["a","{n}"]' if n % 2 else "[]", f"batch {n}",
            f"rung {n}", "ok", f"why {n}", n + 2, n + 3, n + 4, n / 8, "shorter,other_model" if n % 2 else "",
        )
        for n in numbers
    ]  # fmt: skip
    store.close()


def full_line(n):
    tags = ("a", str(n)) if n % 2 else ()
    names = "thrifty", f"k{n}", "'; --", "try/b"
    return LedgerEntry(n, f"r{n}", f"tenant {n}", "m?", "all", n, n + 1, n / 2, *names, tags, f"batch {n}")


def full_closing(n):
    degraded = ("shorter", "other_model") if n % 2 else ()
    return EntryClosing(n, f"tenant {n}", f"rung {n}", "ok", f"why {n}", n + 2, n + 3, n + 4, n / 8, degraded)


def test_a_row_is_dated_by_when_its_request_was_admitted(tmp_path):
    now = [1_700_000_000.0]
    store = Store(tmp_path / "ledger.sqlite3", "life", wall=lambda: now[0])
    late = LedgerEntry(1, "r1", "alice", "small", "route", 10, 100, 0.5, admitted_at=now[0] + 0.25)
    now[0] += 7200
    store.commit(LedgerBatch((late, line(2), closing(1), closing(2))))
    found = connection(store).execute("SELECT opened_at, closed_at FROM requests ORDER BY number").fetchall()
    assert found == [
        ("2023-11-14T22:13:20.250Z", "2023-11-15T00:13:20.000Z"),
        ("2023-11-15T00:13:20.000Z", "2023-11-15T00:13:20.000Z"),
    ]
    assert connection(store).execute("SELECT count(*) FROM spent").fetchone() == (2,)
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


def test_rows_of_a_process_that_still_runs_are_left_to_it_and_count_as_reserved(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    first = Store(path, "first")
    first.commit(LedgerBatch((line(1), line(2), closing(1))))
    second = Store(path, "second", beside=True)
    assert second.recovered == 0
    spent = second.spent(time.time())
    # 15 tokens and 0.25 of what is closed; 100 and 0.5 of what is open.
    assert sum(used.tokens for used in spent.used["alice"] if used.window == "day") == 15 + 100
    assert spent.by_tenant == {"alice": {"hour": 0.75, "day": 0.75, "month": 0.75}}
    assert spent.by_cascade == {"thrifty": 0.75}
    first.commit(LedgerBatch((closing(2),)))
    assert rows(second) == [(1, "ok", 10, 5), (2, "ok", 10, 5)]
    first.close()
    second.close()
