"""What the ledger says of usage, while its writer has the file open."""

import sqlite3
from pathlib import Path

import pytest

from actors.api.errors import LedgerFileError
from actors.ledger.store import LedgerBatch, Store
from actors.ledger.usage_report import GROUPS, UsageRow, read_usage
from actors.protocol.ledger import EntryClosing, LedgerEntry

NOON = 1_795_953_600.0
DAY_S = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> float:
        return self.at


def opens(number: int, tenant: str = "alice", *, route: str = "chat", model: str = "small") -> LedgerEntry:
    return LedgerEntry(number, f"r{number}", tenant, model, route, 10, 50, 0.5)


def closes(number: int, tenant: str = "alice", *, outcome: str = "ok", rung: str = "small") -> EntryClosing:
    return EntryClosing(number, tenant, rung, outcome, "", 10, 4, 1, 0.25)


@pytest.fixture
def ledger(tmp_path: Path):
    clock = Clock()
    path = tmp_path / "a ledger?.sqlite3"
    store = Store(path, "life", clock)
    store.commit(LedgerBatch((opens(1), opens(2), opens(3, "bob"), opens(4, "bob", route="code"), opens(5))))
    store.commit(LedgerBatch((closes(1), closes(2, rung="large"), closes(3, "bob"), closes(5, outcome="refused"))))
    clock.at = NOON + DAY_S
    store.commit(LedgerBatch((opens(6, "bob"),)))
    store.commit(LedgerBatch((closes(6, "bob", outcome="gone"),)))
    yield path
    store.close()


def test_by_tenant(ledger: Path) -> None:
    """A request that runs counts without tokens; a refused one does not count."""
    assert read_usage(ledger, ["tenant"]) == [
        UsageRow(("alice",), 2, 0, 20, 8, 2, 0.5),
        UsageRow(("bob",), 3, 1, 20, 8, 2, 0.5),
    ]


@pytest.mark.parametrize("name", GROUPS)
def test_every_group_holds_all_requests(ledger: Path, name: str) -> None:
    assert sum(row.requests for row in read_usage(ledger, [name])) == 5


def test_several_groups_are_in_order(ledger: Path) -> None:
    found = [row.group for row in read_usage(ledger, ["day", "tenant", "route"])]
    assert found == [
        ("2026-11-29", "alice", "chat"),
        ("2026-11-29", "bob", "chat"),
        ("2026-11-29", "bob", "code"),
        ("2026-11-30", "bob", "chat"),
    ]


KEYED = LedgerEntry(9, "r9", "zoe", "small", "chat", 10, 50, 0.5, "", "app1", "jo", "try/b", ('a "tag"', "b"))


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("key", {"": 5, "app1": 1}),
        ("user", {"": 5, "jo": 1}),
        ("arm", {"": 5, "try/b": 1}),
        ("tag", {"": 5, 'a "tag"': 1, "b": 1}),
    ],
)
def test_by_what_a_request_brings(ledger: Path, by: str, groups: dict[str, int]) -> None:
    store = Store(ledger, "life", Clock())
    store.commit(LedgerBatch((KEYED,)))
    store.close()
    assert {row.group[0]: row.requests for row in read_usage(ledger, [by])} == groups


@pytest.mark.parametrize(
    ("since", "until", "requests"),
    [
        ("", "", 5),
        ("2026-11-30", "", 1),
        ("", "2026-11-30", 4),
        ("2026-11", "2026-12", 5),
        ("2026-11-29T12:00:00", "2026-11-29T12:00:01", 4),
        ("2027", "", 0),
    ],
)
def test_a_span_of_time(ledger: Path, since: str, until: str, requests: int) -> None:
    assert sum(row.requests for row in read_usage(ledger, ["tenant"], since=since, until=until)) == requests


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LedgerFileError, match="there is no file"):
        read_usage(tmp_path / "none", ["tenant"])
    text = tmp_path / "text"
    text.write_text("no database, only words and words and words" * 9)
    with pytest.raises(LedgerFileError, match="cannot be read"):
        read_usage(text, ["tenant"])
    other = tmp_path / "other"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE a (b)")
    connection.close()
    with pytest.raises(LedgerFileError, match="is no ledger"):
        read_usage(other, ["tenant"])
    connection = sqlite3.connect(other)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerFileError, match="version 99"):
        read_usage(other, ["tenant"])
