"""Asks the store of responses, whose thread it starts; see `response_store` for the queries and what they give."""

from collections.abc import Callable
from itertools import count
from typing import Any, ClassVar, Protocol

import structlog
import trio

from actors.api.errors import Unavailable
from actors.kernel.actor import Reply
from actors.kernel.errors import ActorDied
from actors.kernel.thread_bridge import WorkerHandle
from actors.stored.response_store import ResponseStoreClosed, StoreCall, StoreQuery, StoreReply

_MOST_WAITING = 1000
"""Calls at once; above it they are refused."""
_CALL_S = 10.0
_CLOSE_S = 5.0
log = structlog.get_logger()


class ResponseThreads(Protocol):
    """Starts the thread of the store."""

    def response_store(self, on_posts: Callable[[list[StoreReply]], None]) -> WorkerHandle:
        """A handle that takes `StoreCall` and `ResponseStoreClosed`; `on_posts` is called in the event loop."""


class StoredResponses:
    """One object for the life of the service; `run` may end and be called again."""

    redelivered: ClassVar[tuple[type, ...]] = ()

    def __init__(self, threads: ResponseThreads, *, keeps: bool) -> None:
        """`keeps`: false if the settings store no responses."""
        self._threads = threads
        self.keeps = keeps
        self._handle: WorkerHandle | None = None
        self._waiting: dict[int, Reply[Any]] = {}
        self._numbers = count(1)
        self._fails = False
        """The last query did."""

    async def run(self) -> None:
        """Until cancelled; what was asked before is carried out."""
        handle = self._handle = self._threads.response_store(self._on_replies)
        try:
            await trio.sleep_forever()
        finally:
            self._handle = None
            handle.send(ResponseStoreClosed())
            with trio.CancelScope(shield=True):
                if not await handle.join(_CLOSE_S):
                    log.error("response_store_not_closed")
            handle.abandon()
            for reply in self._waiting.values():
                reply.fail(ActorDied("the store of responses has ended"))
            self._waiting.clear()

    async def ask(self, query: StoreQuery) -> Any:
        """What the query gives. Raises Unavailable."""
        number, reply = self._send(query)
        try:
            with trio.move_on_after(_CALL_S):
                return await reply.wait()
        except ActorDied:
            raise _unavailable() from None
        finally:
            self._waiting.pop(number, None)
        log.error("response_store_failed", why="it does not answer: the disk hangs")
        raise _unavailable()

    def tell(self, query: StoreQuery) -> None:
        """Carry it out soon; nothing waits for it. Raises Unavailable."""
        self._send(query)

    def check(self) -> None:
        """Raises Unavailable if nothing can be stored now, as far as that is known."""
        if self._handle is None or self._fails:
            raise _unavailable()

    def _send(self, query: StoreQuery) -> tuple[int, Reply[Any]]:
        if self._handle is None or len(self._waiting) >= _MOST_WAITING:
            raise _unavailable()
        number, reply = next(self._numbers), Reply[Any]()
        self._waiting[number] = reply
        self._handle.send(StoreCall(number, query))
        return number, reply

    def _on_replies(self, replies: list[StoreReply]) -> None:
        for each in replies:
            self._fails = bool(each.failure)
            if each.failure:
                log.error("response_store_failed", why=each.failure)
            reply = self._waiting.pop(each.number, None)
            if reply is None:
                continue
            if each.failure:
                reply.fail(ActorDied(each.failure))
            else:
                reply.set(each.value)


def _unavailable() -> Unavailable:
    return Unavailable(
        "responses_unavailable",
        "Stored responses cannot be read or written now. Try again, or send the whole input with 'store': false.",
        1.0,
    )
