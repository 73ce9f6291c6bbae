"""All deadlines on one wheel: moving a deadline on, which every token does, is one assignment."""

import heapq
from collections.abc import Callable

import trio

TICK_S = 0.02
"""Deadlines are kept in slices of this: they fire late by at most one, and never early."""


class Timer:
    """Calls `fire` once `due` has passed. A later `due` may just be assigned; an earlier one goes through the wheel."""

    __slots__ = ("_slice", "due", "fire")

    def __init__(self, due: float, fire: Callable[[], None]) -> None:
        self.due = due
        self.fire = fire
        self._slice: int | None = None


class TimerWheel:
    """Owned by one task in `run`; `fire` runs there and must neither block nor raise."""

    def __init__(self) -> None:
        self._slices: dict[int, dict[Timer, None]] = {}
        self._order: list[int] = []
        self._waiter: trio.lowlevel.Task | None = None
        self._sleeps_until = float("inf")

    def __len__(self) -> int:
        return sum(map(len, self._slices.values()))

    def watch(self, due: float, fire: Callable[[], None]) -> Timer:
        """A new watch."""
        watch = Timer(due, fire)
        self._file(watch)
        return watch

    def move(self, watch: Timer, due: float) -> None:
        """Another time, earlier or later; a watch that has fired or was cancelled is set anew."""
        watch.due = due
        if watch._slice is None or due < watch._slice * TICK_S:  # noqa: SLF001  (the two are one thing)
            self.cancel(watch)
            self._file(watch)

    def cancel(self, watch: Timer) -> None:
        """It will not fire; a second call does nothing."""
        if watch._slice is not None:  # noqa: SLF001
            self._slices[watch._slice].pop(watch, None)  # noqa: SLF001
            watch._slice = None  # noqa: SLF001

    async def run(self) -> None:
        """Fire what is due until cancelled."""
        while True:
            self._fire(trio.current_time())
            self._sleeps_until = self._order[0] * TICK_S if self._order else float("inf")
            self._waiter = trio.lowlevel.current_task()
            with trio.CancelScope(deadline=self._sleeps_until):
                await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _file(self, watch: Timer) -> None:
        number = -int(-watch.due // TICK_S) if watch.due != float("inf") else None
        watch._slice = number  # noqa: SLF001
        if number is None:
            return
        found = self._slices.get(number)
        if found is None:
            self._slices[number] = found = {}
            heapq.heappush(self._order, number)
            if number * TICK_S < self._sleeps_until and self._waiter is not None:
                waiter, self._waiter = self._waiter, None
                trio.lowlevel.reschedule(waiter)
        found[watch] = None

    def _fire(self, now: float) -> None:
        while self._order and self._order[0] * TICK_S <= now:
            for watch in self._slices.pop(heapq.heappop(self._order)):
                watch._slice = None  # noqa: SLF001
                if watch.due > now:
                    self._file(watch)
                else:
                    watch.fire()

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED
