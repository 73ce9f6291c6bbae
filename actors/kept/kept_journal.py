"""Writes what is kept to its file, in groups: one commit for all answers of some 20 ms.

A task that waits for a commit goes on when it is there, or when there will be none: a file that fails, hangs or is full
costs no answer. The journal is off then, and tries a new file after a pause; what was in the old one is given up, as
answers have gone on without it.
"""

from collections.abc import Callable
from typing import Protocol

import structlog
import trio

from actors.api.errors import Unavailable
from actors.kept.kept_store import (
    KeptBatch,
    KeptCommitted,
    KeptOpened,
    KeptStoreClosed,
    KeptStoreEvent,
    KeptStoreFailed,
    KeptWrite,
)
from actors.kernel.thread_bridge import WorkerHandle

_LINGER_S = 0.02
_HANGS_S = 2.0
"""A commit that takes longer hangs: answers no longer wait for it."""
_OPEN_S = 60.0
_RETRY_S = 10.0
_CLOSE_S = 5.0
_READY_S = 10.0
_POLL_S = 0.02
_POSTS = 8
"""More than one command can have."""
log = structlog.get_logger()


class KeptThreads(Protocol):
    """Starts the thread of the file."""

    def kept_store(self, on_posts: Callable[[list[KeptStoreEvent]], None], *, fresh: bool) -> WorkerHandle:
        """A handle that takes `KeptBatch` and `KeptStoreClosed`; `on_posts` is called in the event loop."""


class _Group:
    """What is committed together."""

    def __init__(self) -> None:
        self.writes: list[KeptWrite] = []
        self.ended = trio.Event()
        self.committed = False

    def end(self, *, committed: bool) -> None:
        self.committed = committed
        self.ended.set()


class KeptJournal:
    """All methods but `run`, `commit` and `ready` are synchronous."""

    def __init__(
        self,
        threads: KeptThreads,
        *,
        may_open: Callable[[], bool],
        on_opened: Callable[[KeptOpened], None],
        on_lost: Callable[[], None],
    ) -> None:
        """`may_open`: whether the ledger has read what it needs of the file. `on_opened` is called once.

        `on_lost`: the file has nothing current any more.
        """
        self._threads = threads
        self._may_open = may_open
        self._on_opened = on_opened
        self._on_lost = on_lost
        self._group = _Group()
        self._wanted = trio.Event()
        self._was_read = False
        self._tried = trio.Event()
        self.is_on = False
        self.failures_total = 0

    async def ready(self) -> None:
        """Wait until it is known what earlier processes have left. Raises Unavailable."""
        with trio.move_on_after(_READY_S):
            await self._tried.wait()
            return
        raise Unavailable("loading", "The kept answers are being read; try again in a moment.", 1.0)

    def write(self, *writes: KeptWrite) -> None:
        """Without waiting."""
        if self.is_on:
            self._group.writes += writes
            self._wanted.set()

    async def commit(self, *writes: KeptWrite) -> bool:
        """Wait until these and all earlier ones are in the file; False: they will not be."""
        if not self.is_on:
            return False
        group = self._group
        self.write(*writes)
        await group.ended.wait()
        return group.committed

    async def run(self) -> None:
        """Until cancelled; the rest is written then."""
        while not self._may_open():  # noqa: ASYNC110  (once, at the start)
            await trio.sleep(_POLL_S)
        while True:
            why = await self._life()
            self.failures_total += 1
            log.error("kept_store_failed", why=why, retry_s=_RETRY_S, hint="answers are kept in memory only meanwhile")
            self._tried.set()
            await trio.sleep(_RETRY_S)

    async def _life(self) -> str:
        """One thread; returns why it failed."""
        posted, posts = trio.open_memory_channel[KeptStoreEvent](_POSTS)

        def on_posts(events: list[KeptStoreEvent]) -> None:
            for event in events:
                posted.send_nowait(event)

        handle = self._threads.kept_store(on_posts, fresh=self._was_read)
        in_commit: _Group | None = None
        try:
            opened = await _next(posts, _OPEN_S)
            if not isinstance(opened, KeptOpened):
                return _why(opened)
            self.is_on = True
            if not self._was_read:
                self._was_read = True
                self._on_opened(opened)
            self._tried.set()
            while True:
                await self._wanted.wait()
                await trio.sleep(_LINGER_S)
                in_commit = self._next_group()
                handle.send(KeptBatch(tuple(in_commit.writes)))
                event = await _next(posts, _HANGS_S)
                if not isinstance(event, KeptCommitted):
                    return _why(event)
                in_commit.end(committed=True)
                in_commit = None
        except trio.Cancelled:
            if self.is_on and (rest := self._group.writes):
                handle.send(KeptBatch(tuple(rest)))
            raise
        finally:
            self._off(in_commit)
            handle.abandon()
            handle.send(KeptStoreClosed())
            with trio.CancelScope(shield=True):
                if not await handle.join(_CLOSE_S):
                    log.error("kept_store_not_closed")

    def _next_group(self) -> _Group:
        group, self._group = self._group, _Group()
        self._wanted = trio.Event()
        return group

    def _off(self, in_commit: _Group | None) -> None:
        """Those who wait go on without the file."""
        if not self.is_on:
            return
        self.is_on = False
        self._on_lost()
        for group in (in_commit, self._next_group()):
            if group is not None:
                group.end(committed=False)


async def _next(posts: trio.MemoryReceiveChannel[KeptStoreEvent], timeout_s: float) -> KeptStoreEvent | None:
    with trio.move_on_after(timeout_s):
        return await posts.receive()
    return None


def _why(event: KeptStoreEvent | None) -> str:
    return event.message if isinstance(event, KeptStoreFailed) else "it does not answer: the disk hangs"
