"""All deadlines on one timer wheel: postponing a deadline, which happens at every token, is one assignment.

The wheel outlives the restarts of the loop that fires it. If a callback raises, the error is logged and the other
timers fire.
"""

import heapq
from collections.abc import Callable
from typing import ClassVar

import structlog
import trio

TICK_S = 0.02
"""Deadlines are kept in slices of this length: they fire late by at most one slice, and never early."""
log = structlog.get_logger()


class Timer:
    """Calls `fire` once `due` has passed. A later `due` may just be assigned; an earlier one goes through the wheel."""

    __slots__ = ("_slice", "due", "fire")

    def __init__(self, due: float, fire: Callable[[], None]) -> None:
        self.due = due
        self.fire = fire
        self._slice: int | None = None


class TimerWheel:
    """All timers. `fire` is called by the loop, between two tasks' turns, and must not block."""

    def __init__(self) -> None:
        self._slices: dict[int, dict[Timer, None]] = {}
        self._order: list[int] = []
        """The numbers of the slices, as a heap. A slice that is being fired is not among them."""
        self._waiter: trio.lowlevel.Task | None = None
        self._sleeps_until = float("inf")

    def __len__(self) -> int:
        return sum(map(len, self._slices.values()))

    def watch(self, due: float, fire: Callable[[], None]) -> Timer:
        timer = Timer(due, fire)
        self._file(timer)
        return timer

    def move(self, timer: Timer, due: float) -> None:
        """Change the time; a timer that has fired or was cancelled is active again."""
        timer.due = due
        if timer._slice is None or due < timer._slice * TICK_S:  # noqa: SLF001  (private to this file)
            self.cancel(timer)
            self._file(timer)

    def cancel(self, timer: Timer) -> None:
        """Deactivate it; a second call has no effect."""
        if timer._slice is not None:  # noqa: SLF001
            self._slices[timer._slice].pop(timer, None)  # noqa: SLF001
            timer._slice = None  # noqa: SLF001

    def fire_due(self, now: float) -> None:
        """Call the callbacks of all timers that are due; a callback may add, move and cancel any timer."""
        while self._order and self._order[0] * TICK_S <= now:
            number = heapq.heappop(self._order)
            # The slice stays in its place until it is empty: a callback may cancel another timer of it.
            timers = self._slices[number]
            try:
                while timers:
                    timer = next(iter(timers))
                    del timers[timer]
                    timer._slice = None  # noqa: SLF001
                    if timer.due > now:
                        self._file(timer)
                    else:
                        _call(timer)
            finally:
                if timers:
                    heapq.heappush(self._order, number)
                else:
                    del self._slices[number]

    async def until_due(self) -> None:
        """Sleep until the first slice is due."""
        self._sleeps_until = self._order[0] * TICK_S if self._order else float("inf")
        self._waiter = trio.lowlevel.current_task()
        with trio.CancelScope(deadline=self._sleeps_until):
            await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _file(self, timer: Timer) -> None:
        number = -int(-timer.due // TICK_S) if timer.due != float("inf") else None
        timer._slice = number  # noqa: SLF001
        if number is None:
            return
        timers = self._slices.get(number)
        if timers is None:
            self._slices[number] = timers = {}
            heapq.heappush(self._order, number)
            if number * TICK_S < self._sleeps_until and self._waiter is not None:
                waiter, self._waiter = self._waiter, None
                trio.lowlevel.reschedule(waiter)
        timers[timer] = None

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED


class TimerLoop:
    """The supervised child that fires what is due on the wheel."""

    redelivered: ClassVar[tuple[type, ...]] = ()

    def __init__(self, timers: TimerWheel) -> None:
        self._timers = timers

    async def run(self) -> None:
        while True:
            self._timers.fire_due(trio.current_time())
            await self._timers.until_due()


def _call(timer: Timer) -> None:
    try:
        timer.fire()
    except Exception:
        log.exception("timer_callback_failed", callback=getattr(timer.fire, "__qualname__", repr(timer.fire)))
