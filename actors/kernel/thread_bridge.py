"""The only file with threads: one long-lived thread with an inbox; its posts reach the loop in one hop a batch.

`WorkerHandle` and `WorkerPool` are what actors see of it.
"""

import ctypes
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread, get_native_id
from threading import enumerate as living_threads
from time import perf_counter, thread_time
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import trio

from engine.core.time_slices import TimeSliceScheduler
from policies.queueing.turn_queue import TurnQueue, WorkFor

C = TypeVar("C")
P = TypeVar("P")
T = TypeVar("T")


_SWITCH_INTERVAL_S = 5e-4
"""A thread that computes releases the interpreter within this: it bounds the event loop's latency, at the price of
switches."""
_LONG_WORK_THREADS = 2
_WAKES = 64
"""Bytes read at once, one a wake."""
NICE = 5
"""How much nicer than the process threads are that compute without end, with the OpenMP teams that they start (Linux).
When the event loop wakes while all cores compute, it gets one sooner; where a core is free it costs nothing."""
_yield_core: Callable[[], object] = getattr(ctypes.CDLL(None), "sched_yield", lambda: None)
"""Let another thread that waits for this core run. Unlike `os.sched_yield` it holds no lock of the interpreter."""
_LONG_STEP_S = 1e-3
"""A thread that computes less between two wakes keeps its core: the loop then takes several posts at once."""
_LONGEST_TURN_S = 1.0
"""Other threads no longer wait for a thread that holds its time slice for longer (it hangs, or the machine does)."""


class WorkerHandle(Protocol):
    """Sends commands to one thread and ends it; see `ThreadBridge`."""

    def send(self, command: Any) -> None: ...
    def abandon(self) -> None: ...
    async def join(self, timeout_s: float) -> bool: ...
    def stacks(self) -> str:
        """What it is doing, for the log."""
        ...


class WorkerPool(Protocol):
    """A few threads for work that takes the processor for long."""

    async def run_in_thread(self, job: Callable[[], T], work_for: WorkFor | None = None) -> T:
        """The result of `job()`, or what it raises; the event loop goes on meanwhile. See `LongWork.run`."""
        ...


class WorkerEvents(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A thread's posts since the last such message."""

    posts: Sequence[Any]
    life: object = None
    """The actor that started the thread: its successor ignores posts of an earlier thread."""


def stacks() -> str:
    """The stacks of all threads of this process, by name."""
    frames = sys._current_frames()  # noqa: SLF001  (documented, and the only way)
    parts = []
    for thread in living_threads():
        frame = frames.get(thread.ident or 0)
        if frame is not None:
            parts.append(f"{thread.name}:\n{''.join(traceback.format_stack(frame))}")
    return "\n".join(parts)


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
        self._outbox = _Outbox[P]()
        self._on_posts: Callable[[list[P]], None] | None = on_posts
        self._ended = trio.Event()
        self._body = body
        self._nice = nice
        trio.lowlevel.spawn_system_task(self._deliver)
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

    def stacks(self) -> str:
        return stacks()

    def _run(self) -> None:
        if sys.platform == "linux" and self._nice:
            # Elsewhere a thread has no niceness of its own.
            with suppress(OSError):
                thread = get_native_id()
                os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + self._nice)
        try:
            self._body(self._inbox, self._outbox.post)
        finally:
            self._outbox.end()

    async def _deliver(self) -> None:
        try:
            while (posts := await self._outbox.take()) is not None:
                if self._on_posts is not None:
                    self._on_posts(posts)
        finally:
            self._outbox.close()
            self._ended.set()


class _Outbox(Generic[P]):
    """A thread's posts on their way to the event loop, which a pipe wakes.

    `trio.TrioToken.run_sync_soon` does the same for all threads and functions together, and takes half as long again:
    see docs/performance.md.
    """

    def __init__(self) -> None:
        self._posts: deque[P] = deque()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._woken = False
        """The loop has been woken and has not taken the posts yet."""
        self._ended = False
        self._computed_s = 0.0
        """Of the thread's processor time, up to the last wake."""
        self._pipe = Lock()
        """Held while it is written or closed: its numbers are another file's afterwards."""
        self._closed = False

    def post(self, value: P) -> None:
        """Called in the thread."""
        self._posts.append(value)
        if not self._woken:
            self._woken = True
            self._wake()

    def end(self) -> None:
        """Called in the thread after its last post."""
        self._ended = True
        self._wake()

    async def take(self) -> list[P] | None:
        """Called in the event loop: wait for posts; None after the last."""
        posts: list[P] = []
        while not posts:
            if self._ended and not self._posts:
                return None
            await trio.lowlevel.wait_readable(self._reader)
            os.read(self._reader, _WAKES)
            # Before the posts are taken: a post is either seen here, or it wakes the loop again.
            self._woken = False
            while self._posts:
                posts.append(self._posts.popleft())
        return posts

    def close(self) -> None:
        """The event loop takes no more posts, and may end before the thread does."""
        with self._pipe:
            self._closed = True
            os.close(self._reader)
            os.close(self._writer)

    def _wake(self) -> None:
        with self._pipe:
            if not self._closed:
                os.write(self._writer, b"\0")
        before_s, self._computed_s = self._computed_s, thread_time()
        if self._computed_s - before_s >= _LONG_STEP_S:
            # Where all cores compute, the loop would otherwise get one at the kernel's next tick: after up to 4 ms.
            _yield_core()


class LongWork:
    """Runs what takes the processor for long beside the loop, a few at a time: see `TurnQueue`."""

    def __init__(self, at_once: int = _LONG_WORK_THREADS) -> None:
        """`at_once`: pieces of work for clients; as many for the service itself."""
        self._own = trio.CapacityLimiter(at_once)
        self._limiter = trio.CapacityLimiter(at_once)
        self._free = at_once
        self._queue = TurnQueue()
        self._turns: dict[int, trio.Event] = {}

    async def run(self, job: Callable[[], T], work_for: WorkFor | None = None) -> T:
        """The result of `job()`, or what it raises. `work_for` None: the service's own, which waits for no client's."""
        if work_for is None:
            return await trio.to_thread.run_sync(job, limiter=self._own)
        await self._turn(work_for)
        try:
            return await trio.to_thread.run_sync(job, limiter=self._limiter)
        finally:
            self._next()

    async def _turn(self, work_for: WorkFor) -> None:
        if self._free:
            self._free -= 1
            return
        number = self._queue.add(work_for)
        turn = self._turns[number] = trio.Event()
        try:
            await turn.wait()
        except trio.Cancelled:
            self._queue.withdraw(number)
            if self._turns.pop(number, None) is None:
                # It was this one's turn already.
                self._next()
            raise

    def _next(self) -> None:
        number = self._queue.next()
        if number is None:
            self._free += 1
        else:
            self._turns.pop(number).set()


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
