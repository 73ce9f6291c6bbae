"""The only file with threads: one long-lived thread with an inbox; its posts reach the loop in one hop a batch."""

import sys
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

import trio

C = TypeVar("C")
P = TypeVar("P")
T = TypeVar("T")

_SWITCH_INTERVAL_S = 5e-4
"""A thread that computes gives the interpreter up within this: the loop's latency, paid in switches."""
_LONG_WORK_THREADS = 2


class Bridge(Generic[C, P]):
    """A thread that obeys commands of type C and posts values of type P.

    `body(inbox, post)` runs in the thread and must return when it takes the command with which `stop` was called.
    `on_posts` is called in the event loop with all posts since the last call.
    """

    def __init__(
        self,
        name: str,
        body: "Callable[[SimpleQueue[C], Callable[[P], None]], None]",
        on_posts: Callable[[list[P]], None],
    ) -> None:
        """Must be called in the event loop; the thread starts at once."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._inbox: SimpleQueue[C] = SimpleQueue()
        self._outbox: SimpleQueue[P] = SimpleQueue()
        self._on_posts: Callable[[list[P]], None] | None = on_posts
        self._token = trio.lowlevel.current_trio_token()
        self._ended = trio.Event()
        self._body = body
        # One bound method for all posts: trio recognises it and runs it once, however often it was asked.
        self._deliver_soon = self._deliver
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def send(self, command: C) -> None:
        """Never blocks."""
        self._inbox.put(command)

    def abandon(self) -> None:
        """Hear no more of it: later posts are dropped, and the thread ends by itself or with the process."""
        self._on_posts = None

    async def join(self, timeout_s: float) -> bool:
        """Whether the thread has ended within this time."""
        with trio.move_on_after(timeout_s):
            await self._ended.wait()
        return self._ended.is_set()

    def _run(self) -> None:
        try:
            self._body(self._inbox, self._post)
        finally:
            self._tell(self._ended.set)

    def _post(self, value: P) -> None:
        self._outbox.put(value)
        self._tell(self._deliver_soon)

    def _tell(self, what: Callable[[], None]) -> None:
        # If the loop has ended without waiting for this thread, nobody is left to tell.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(what, idempotent=True)

    def _deliver(self) -> None:
        posts: list[P] = []
        try:
            while True:
                posts.append(self._outbox.get_nowait())
        except Empty:
            pass
        if posts and self._on_posts is not None:
            self._on_posts(posts)


class LongWork:
    """Runs what takes the processor for long beside the loop, a few at a time."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(_LONG_WORK_THREADS)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work()`, or what it raises."""
        return await trio.to_thread.run_sync(work, limiter=self._limiter)
