"""The only file with threads: one long-lived thread with an inbox; its posts reach the loop in one hop a batch.

`WorkerHandle` and `WorkerPool` are what actors see of it.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread, get_native_id
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import trio

from engine.core.time_slices import TimeSliceScheduler

C = TypeVar("C")
P = TypeVar("P")
T = TypeVar("T")


_SWITCH_INTERVAL_S = 5e-4
"""A thread that computes releases the interpreter within this: it bounds the event loop's latency, at the price of
switches."""
_LONG_WORK_THREADS = 2
NICE = 5
"""How much nicer than the process threads are that compute without end, with the OpenMP teams that they start (Linux).
When the event loop wakes while all cores compute, it gets one sooner; where a core is free it costs nothing."""
_LONGEST_TURN_S = 1.0
"""Other threads no longer wait for a thread that holds its time slice for longer (it hangs, or the machine does)."""


class WorkerHandle(Protocol):
    """Sends commands to one thread and ends it; see `ThreadBridge`."""

    def send(self, command: Any) -> None: ...
    def abandon(self) -> None: ...
    async def join(self, timeout_s: float) -> bool: ...


class WorkerPool(Protocol):
    """A few threads for work that takes the processor for long."""

    async def run_in_thread(self, job: Callable[[], T]) -> T:
        """The result of `job()`, or what it raises; the event loop goes on meanwhile."""
        ...


class WorkerEvents(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A thread's posts since the last such message."""

    posts: Sequence[Any]
    life: object = None
    """The actor that started the thread: its successor ignores posts of an earlier thread."""


class ThreadBridge(Generic[C, P]):
    """A thread that obeys commands of type C and posts values of type P.

    `body(inbox, post)` runs in the thread and must return when it takes the command with which `stop` was called.
    `on_posts` is called in the event loop with all posts since the last call.
    """

    def __init__(
        self,
        name: str,
        body: "Callable[[SimpleQueue[C], Callable[[P], None]], None]",
        on_posts: Callable[[list[P]], None],
        *,
        nice: int = 0,
    ) -> None:
        """Must be called in the event loop; the thread starts at once. `nice`: see `NICE`."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._inbox: SimpleQueue[C] = SimpleQueue()
        self._outbox: SimpleQueue[P] = SimpleQueue()
        self._on_posts: Callable[[list[P]], None] | None = on_posts
        self._token = trio.lowlevel.current_trio_token()
        self._ended = trio.Event()
        self._body = body
        self._nice = nice
        # One bound method for all posts: trio recognises it and runs it once for several calls.
        self._deliver_soon = self._deliver
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def send(self, command: C) -> None:
        self._inbox.put(command)

    def abandon(self) -> None:
        """Ignore later posts; the thread ends by itself or with the process."""
        self._on_posts = None

    async def join(self, timeout_s: float) -> bool:
        """Whether the thread has ended within this time."""
        with trio.move_on_after(timeout_s):
            await self._ended.wait()
        return self._ended.is_set()

    def _run(self) -> None:
        if sys.platform == "linux" and self._nice:
            # Elsewhere a thread has no niceness of its own.
            with suppress(OSError):
                thread = get_native_id()
                os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + self._nice)
        try:
            self._body(self._inbox, self._post)
        finally:
            self._run_soon(self._ended.set)

    def _post(self, value: P) -> None:
        self._outbox.put(value)
        self._run_soon(self._deliver_soon)

    def _run_soon(self, what: Callable[[], None]) -> None:
        # The event loop may have ended without waiting for this thread.
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

    async def run(self, job: Callable[[], T]) -> T:
        """The result of `job()`, or what it raises."""
        return await trio.to_thread.run_sync(job, limiter=self._limiter)


class TimeSlices:
    """Threads of which only so many compute at once, step by step, by the rule of `TimeSliceScheduler`."""

    def __init__(self, at_once: int) -> None:
        self._lock = Lock()
        self._book: TimeSliceScheduler[_Turn] = TimeSliceScheduler(at_once)

    def join(self) -> "_Turn":
        """The way to its turns for one thread."""
        return _Turn(self._lock, self._book)


class _Turn:
    """See `engine.core.time_slices.TimeSlice`."""

    def __init__(self, lock: Lock, book: "TimeSliceScheduler[_Turn]") -> None:
        self._lock = lock
        self._book = book
        self._gate = Lock()
        """Open (not locked) once a turn was given that this one waits for."""
        self._gate.acquire()
        self._began = 0.0

    def take(self) -> None:
        with self._lock:
            mine = self._book.ask(self)
            seen = self._book.grants
            if mine:
                # It may have been given between the last step's end and now.
                self._gate.acquire(blocking=False)
        while not mine and not self._gate.acquire(timeout=_LONGEST_TURN_S):
            with self._lock:
                if self._book.grants == seen:
                    self._open(self._book.overrule())
                seen = self._book.grants
        self._began = perf_counter()

    def done(self, *, more: bool) -> None:
        with self._lock:
            self._open(self._book.done(self, perf_counter() - self._began, more=more))

    def leave(self) -> None:
        with self._lock:
            self._open(self._book.leave(self))

    @staticmethod
    def _open(turn: "_Turn | None") -> None:
        if turn is not None:
            turn._gate.release()  # noqa: SLF001
