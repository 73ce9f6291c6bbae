"""An SQLite store in a thread of its own, and how tasks ask it: calls by number, each with one reply."""

import sqlite3
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

import msgspec
import structlog
import trio

from actors.kernel.actor import Reply
from actors.kernel.errors import ActorDied
from actors.kernel.thread_bridge import WorkerHandle

_MOST_WAITING = 1000
"""Calls at once; above it they are refused."""
_CALL_S = 10.0
_CLOSE_S = 5.0
log = structlog.get_logger()


class StoreCall(msgspec.Struct, frozen=True):
    """A query with the number by which its answer is found."""

    number: int
    query: Any


class StoreReply(msgspec.Struct, frozen=True):
    """What a query gives."""

    number: int
    value: Any
    failure: str = ""
    """Why it could not be carried out; nothing was changed."""


class StoreEnd(msgspec.Struct, frozen=True):
    """The last command."""


class AskedStore(Protocol):
    """What carries the queries out, in its thread."""

    in_memory: bool

    def carry_out(self, query: Any) -> Any:
        """Raises sqlite3.Error; nothing is changed then."""

    def close(self) -> None: ...


def answer_calls(
    open_store: Callable[[], AskedStore],
    receive: Callable[[], StoreCall | StoreEnd],
    post: Callable[[StoreReply], None],
) -> None:
    """Carry out calls until `StoreEnd`. After a failure the file is opened again for the next call."""
    store: AskedStore | None = None
    try:
        while isinstance(call := receive(), StoreCall):
            try:
                store = store or open_store()
                value = store.carry_out(call.query)
            except (sqlite3.Error, OSError) as error:
                if store is not None and not store.in_memory:
                    store.close()
                    store = None
                post(StoreReply(call.number, None, str(error) or type(error).__name__))
            else:
                post(StoreReply(call.number, value))
    finally:
        if store is not None:
            store.close()


class StoreClient:
    """One object for the life of the service; `run` may end and be called again."""

    def __init__(
        self,
        start: Callable[[Callable[[list[StoreReply]], None]], WorkerHandle],
        *,
        name: str,
        unavailable: Callable[[], Exception],
    ) -> None:
        """`start` starts the thread, which takes `StoreCall` and `StoreEnd`; its replies come in the event loop.

        `name`: the beginning of its log events. `unavailable`: what is raised while the store does not answer.
        """
        self._start = start
        self._failed, self._back, self._not_closed = f"{name}_failed", f"{name}_back", f"{name}_not_closed"
        """Log events."""
        self._unavailable = unavailable
        self._handle: WorkerHandle | None = None
        self._waiting: dict[int, Reply[Any]] = {}
        self._numbers = count(1)
        self._failure = ""
        """Why the last query failed; empty if it did not."""

    async def run(self) -> None:
        """Until cancelled; what was asked before is carried out."""
        handle = self._handle = self._start(self._on_replies)
        try:
            await trio.sleep_forever()
        finally:
            self._handle = None
            handle.send(StoreEnd())
            with trio.CancelScope(shield=True):
                if not await handle.join(_CLOSE_S):
                    log.error(self._not_closed)
            handle.abandon()
            for reply in self._waiting.values():
                reply.fail(ActorDied("the store has ended"))
            self._waiting.clear()

    async def ask(self, query: Any) -> Any:
        """What the query gives. Raises what `unavailable` makes."""
        number, reply = self._send(query)
        try:
            with trio.move_on_after(_CALL_S):
                return await reply.wait()
        except ActorDied:
            raise self._unavailable() from None
        finally:
            self._waiting.pop(number, None)
        log.error(self._failed, why="it does not answer: the disk hangs")
        raise self._unavailable()

    def tell(self, query: Any) -> None:
        """Carry it out soon; nothing waits for it. Raises as `ask`."""
        self._send(query)

    def check(self) -> None:
        """Raises as `ask` if nothing can be stored now, as far as that is known."""
        if self._handle is None or self._failure:
            raise self._unavailable()

    def _send(self, query: Any) -> tuple[int, Reply[Any]]:
        if self._handle is None or len(self._waiting) >= _MOST_WAITING:
            raise self._unavailable()
        number, reply = next(self._numbers), Reply[Any]()
        self._waiting[number] = reply
        self._handle.send(StoreCall(number, query))
        return number, reply

    def _on_replies(self, replies: list[StoreReply]) -> None:
        for each in replies:
            self._note(each.failure)
            reply = self._waiting.pop(each.number, None)
            if reply is None:
                continue
            if each.failure:
                reply.fail(ActorDied(each.failure))
            else:
                reply.set(each.value)

    def _note(self, failure: str) -> None:
        """Log it when it begins, changes and ends: callers that insist ask again all the time."""
        before, self._failure = self._failure, failure
        if failure and failure != before:
            log.error(self._failed, why=failure)
        elif before and not failure:
            log.warning(self._back)
