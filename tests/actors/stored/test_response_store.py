"""What the store gives, to whom, for how long, and how much of it."""

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from actors.kernel.store_calls import StoreCall, StoreEnd, StoreReply, answer_calls
from actors.stored.response_store import (
    AddItems,
    ChangeConversation,
    DeleteConversation,
    DeleteItem,
    DeleteResponse,
    GetChain,
    GetConversation,
    GetItems,
    GetResponse,
    PutConversation,
    PutResponse,
    ResponseStore,
    StoredItem,
    StoredResponse,
)

A, B = StoredItem("a", b"1"), StoredItem("b", b"2")


class World:
    def __init__(self, path: Path | None = None, most_bytes: int = 1 << 20) -> None:
        self.now = 1000.0
        self.store = ResponseStore(path, most_bytes=most_bytes, keep_s=100.0, wall=lambda: self.now)

    def ask(self, query: Any) -> Any:
        return self.store.carry_out(query)

    def put(self, name: str, previous: str = "", tenant: str = "t", size: int = 10) -> None:
        self.ask(PutResponse(tenant, StoredResponse(name, b"x" * size, b"[]", previous)))

    def has(self, name: str, tenant: str = "t") -> bool:
        return self.ask(GetResponse(tenant, name)) is not None


def test_a_response_is_its_tenant_s() -> None:
    world = World()
    world.put("r")
    assert world.ask(GetResponse("t", "r")) == StoredResponse("r", b"x" * 10, b"[]")
    for query in (GetResponse("other", "r"), GetChain("other", "r"), DeleteResponse("other", "r")):
        assert not world.ask(query)
    assert world.ask(DeleteResponse("t", "r"))
    assert not world.ask(DeleteResponse("t", "r"))
    assert not world.has("r")


def test_another_tenant_s_id_cannot_be_taken() -> None:
    world = World()
    world.put("r")
    with pytest.raises(sqlite3.IntegrityError):
        world.put("r", tenant="other")
    world.ask(PutConversation("t", "c", b"{}"))
    with pytest.raises(sqlite3.IntegrityError):
        world.ask(PutConversation("other", "c", b"mine"))
    assert not world.ask(ChangeConversation("other", "c", b"mine"))
    assert world.ask(GetConversation("t", "c")) == b"{}"
    assert world.ask(GetConversation("other", "c")) is None


def test_a_chain_is_the_conversation_so_far() -> None:
    world = World()
    for name, previous in (("a", ""), ("b", "a"), ("c", "b"), ("x", "a")):
        world.put(name, previous)
    assert [each.id for each in world.ask(GetChain("t", "c"))] == ["a", "b", "c"]
    world.put("foreign", "a", tenant="other")
    assert [each.id for each in world.ask(GetChain("other", "foreign"))] == ["foreign"]
    world.ask(DeleteResponse("t", "a"))
    first, *_ = world.ask(GetChain("t", "c"))
    assert (first.id, first.previous) == ("b", "a")


def test_what_is_used_is_kept() -> None:
    world = World()
    world.put("a")
    world.put("b", "a")
    world.put("unused")
    world.now += 90
    world.ask(GetChain("t", "b"))
    world.now += 90
    assert (world.has("a"), world.has("b"), world.has("unused")) == (True, True, False)
    world.now += 11
    assert not world.has("b")


def test_a_tenant_has_a_share_and_loses_what_it_used_the_longest_ago() -> None:
    world = World(most_bytes=8000)
    world.put("other", tenant="u")
    for number in range(4):
        world.now += 1
        world.put(f"r{number}", size=600)
    assert [world.has(f"r{number}") for number in range(4)] == [False, False, True, True]
    assert world.has("other", "u")


def test_all_together_have_a_bound() -> None:
    world = World(most_bytes=8000)
    for number in range(12):
        world.now += 1
        world.put(f"r{number}", tenant=f"t{number}", size=800)
    assert [world.has(f"r{number}", f"t{number}") for number in range(12)] == [False] * 5 + [True] * 7


def test_a_conversation_grows_and_goes() -> None:
    world = World()
    world.ask(PutConversation("t", "c", b"{}"))
    assert world.ask(AddItems("t", "c", (A, B)))
    world.ask(PutResponse("t", StoredResponse("r", b"", b""), "c", (A,)))
    assert world.ask(GetItems("t", "c")) == [A, B, A]
    assert world.ask(DeleteItem("t", "c", "a"))
    assert world.ask(GetItems("t", "c")) == [B]
    world.ask(PutResponse("t", StoredResponse("r", b"again", b""), "c", (A,), only_new=True))
    assert world.ask(GetResponse("t", "r")) == StoredResponse("r", b"", b"")
    assert world.ask(GetItems("t", "c")) == [B]
    assert world.ask(ChangeConversation("t", "c", b"[]"))
    assert world.ask(GetConversation("t", "c")) == b"[]"
    assert world.ask(GetItems("t", "c")) == [B]
    for query in (
        AddItems("u", "c", (A,)),
        GetItems("u", "c"),
        DeleteItem("u", "c", "b"),
        ChangeConversation("u", "c", b""),
        ChangeConversation("t", "d", b""),
        DeleteConversation("u", "c"),
    ):
        assert not world.ask(query)
    assert world.ask(DeleteConversation("t", "c"))
    assert world.ask(GetItems("t", "c")) is None
    # A response for a conversation that is gone is stored alone.
    world.ask(PutResponse("t", StoredResponse("s", b"", b""), "c", (A,)))
    assert world.has("s")


def test_a_conversation_counts_with_its_items() -> None:
    world = World(most_bytes=8000)
    for name in ("c", "d"):
        world.now += 1
        world.ask(PutConversation("t", name, b"{}"))
        world.ask(AddItems("t", name, (StoredItem("i", b"x" * 900),)))
    assert world.ask(GetItems("t", "c")) is None
    assert world.ask(GetItems("t", "d")) is not None


def test_a_file_outlives_the_process_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite3"
    world = World(path)
    world.put("r")
    other = World(path)
    assert other.has("r")
    world.store.close()
    other.store.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert World(path).has("r")


@pytest.mark.parametrize(
    ("pragma", "message"), [("user_version = 9", "another version"), ("application_id = 5", "something else")]
)
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, pragma: str, message: str) -> None:
    path = tmp_path / "responses.sqlite3"
    World(path).store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA {pragma}")
    with pytest.raises(sqlite3.DatabaseError, match=message):
        World(path)


def test_a_failure_is_answered_and_the_file_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "responses.sqlite3"

    def calls() -> Any:
        yield StoreCall(1, GetResponse("t", "r"))
        path.parent.mkdir()
        yield StoreCall(2, PutResponse("t", StoredResponse("r", b"b", b"[]")))
        yield StoreCall(3, GetResponse("t", "r"))
        yield StoreEnd()

    posts: list[StoreReply] = []
    asked = calls()
    answer_calls(
        lambda: ResponseStore(path, most_bytes=1 << 20, keep_s=9.0, wall=lambda: 0.0), lambda: next(asked), posts.append
    )
    assert [(each.number, bool(each.failure)) for each in posts] == [(1, True), (2, False), (3, False)]
    assert posts[-1].value == StoredResponse("r", b"b", b"[]")


def test_the_sums_are_those_of_the_rows(tmp_path: Path) -> None:
    chance = random.Random(7)
    path = tmp_path / "responses.sqlite3"
    world = World(path, most_bytes=40_000)
    for _ in range(400):
        tenant, name = chance.choice("tuvwx"), chance.choice("abcdefgh")
        world.now += chance.randint(0, 5)
        body = b"x" * chance.randint(0, 2000)
        if world.ask(GetConversation(tenant, tenant + name)) is None:
            world.ask(PutConversation(tenant, tenant + name, body))
        world.ask(
            chance.choice(
                [
                    PutResponse(tenant, StoredResponse(tenant + name, body, b"[]"), tenant + name, (A,)),
                    ChangeConversation(tenant, tenant + name, body),
                    AddItems(tenant, tenant + name, (StoredItem("i", body),)),
                    DeleteItem(tenant, tenant + name, "a"),
                    DeleteResponse(tenant, tenant + name),
                    DeleteConversation(tenant, tenant + name),
                    GetChain(tenant, tenant + name),
                ]
            )
        )
    with sqlite3.connect(path) as connection:
        rows = "SELECT tenant, size FROM responses UNION ALL SELECT tenant, size FROM conversations"
        sums = dict(connection.execute(f"SELECT tenant, sum(size) FROM ({rows}) GROUP BY tenant").fetchall())
        kept = dict(connection.execute("SELECT tenant, bytes FROM sizes WHERE bytes <> 0").fetchall())
        items = connection.execute(
            "SELECT count(*) FROM items WHERE conversation NOT IN (SELECT id FROM conversations)"
        ).fetchone()[0]
        measured = connection.execute(
            "SELECT count(*) FROM conversations AS c WHERE size <> 256 + length(body) +"
            " (SELECT ifnull(sum(length(item) + 256), 0) FROM items WHERE conversation = c.id)"
        ).fetchone()[0]
    assert sums == kept
    assert sum(sums.values()) <= 40_000
    assert (items, measured) == (0, 0)
