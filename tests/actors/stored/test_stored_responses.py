"""The store is asked from the event loop: answers find their callers, failures and full queues are refusals."""

import sqlite3
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from actors.api.errors import Unavailable
from actors.kernel.store_calls import answer_calls
from actors.kernel.thread_bridge import ThreadBridge
from actors.stored.response_store import (
    DeleteResponse,
    GetResponse,
    PutResponse,
    ResponseStore,
    StoredResponse,
)
from actors.stored.stored_responses import StoredResponses


class Threads:
    """A real thread; `breaks`: why each query fails."""

    def __init__(self) -> None:
        self.breaks = ""
        self.store = ResponseStore(None, most_bytes=1 << 20, keep_s=100.0, wall=lambda: 0.0)

    def response_store(self, on_posts: Callable[[list[Any]], None]) -> ThreadBridge[Any, Any]:
        def body(inbox: Any, post: Any) -> None:
            answer_calls(self._open, inbox.get, post)

        return ThreadBridge("stored responses", body, on_posts)

    def _open(self) -> Any:
        if self.breaks:
            raise sqlite3.OperationalError(self.breaks)
        return self.store


async def test_answers_find_their_callers(nursery: trio.Nursery) -> None:
    stored = StoredResponses(Threads(), keeps=True)
    nursery.start_soon(stored.run)
    await trio.testing.wait_all_tasks_blocked()
    found: dict[str, Any] = {}

    async def ask(name: str) -> None:
        found[name] = await stored.ask(GetResponse("t", name))

    stored.tell(PutResponse("t", StoredResponse("a", b"1", b"[]")))
    async with trio.open_nursery() as callers:
        for name in ("a", "b"):
            callers.start_soon(ask, name)
    assert (found["a"].body, found["b"]) == (b"1", None)
    assert await stored.ask(DeleteResponse("t", "a"))
    nursery.cancel_scope.cancel()


async def test_failures_are_refusals(nursery: trio.Nursery) -> None:
    threads = Threads()
    stored = StoredResponses(threads, keeps=True)
    with pytest.raises(Unavailable):
        await stored.ask(GetResponse("t", "a"))
    threads.breaks = "disk I/O error"
    nursery.start_soon(stored.run)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(Unavailable) as refused:
        await stored.ask(GetResponse("t", "a"))
    assert refused.value.body.code == "responses_unavailable"
    threads.breaks = ""
    with pytest.raises(Unavailable):
        stored.check()
    assert await stored.ask(GetResponse("t", "a")) is None
    stored.check()
    nursery.cancel_scope.cancel()


async def test_a_failure_is_logged_when_it_begins_changes_and_ends(nursery: trio.Nursery) -> None:
    threads = Threads()
    stored = StoredResponses(threads, keeps=True)
    nursery.start_soon(stored.run)
    await trio.testing.wait_all_tasks_blocked()
    with capture_logs() as logs:
        for why in ("disk I/O error", "disk I/O error", "database or disk is full", ""):
            threads.breaks = why
            with nullcontext() if not why else pytest.raises(Unavailable):
                await stored.ask(GetResponse("t", "a"))
        await stored.ask(GetResponse("t", "a"))
    assert [(each["event"], each.get("why")) for each in logs] == [
        ("response_store_failed", "disk I/O error"),
        ("response_store_failed", "database or disk is full"),
        ("response_store_back", None),
    ]
    nursery.cancel_scope.cancel()


async def test_what_was_asked_before_the_end_is_written() -> None:
    threads = Threads()
    stored = StoredResponses(threads, keeps=True)
    seen: list[bytes] = []
    carry_out = threads.store.carry_out
    threads.store.carry_out = lambda query: seen.append(query.response.body) or carry_out(query)  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stored.run)
        await trio.testing.wait_all_tasks_blocked()
        stored.tell(PutResponse("t", StoredResponse("a", b"1", b"[]")))
        nursery.cancel_scope.cancel()
    assert seen == [b"1"]
