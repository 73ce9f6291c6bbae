"""Deadlines that can be moved, and what is called at them."""

from itertools import count

import pytest
import trio

from actors.kernel.timers import TICK_S, TimerLoop, TimerWheel


async def test_deadlines_fire_once_late_by_a_tick_at_most_and_never_early(autojump_clock):
    timers = TimerWheel()
    fired: list[tuple[float, float]] = []
    numbers = count()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TimerLoop(timers).run)
        start = trio.current_time()
        watches = []
        for number in range(50):
            due = start + (number * 37 % 50) * 0.013

            def fire(due=due) -> None:
                next(numbers)
                fired.append((due, trio.current_time()))

            watches.append(timers.watch(due, fire))
        timers.cancel(watches[3])
        timers.cancel(watches[3])
        await trio.sleep(2)
        assert len(fired) == 49
        assert all(due <= at <= due + TICK_S + 1e-9 for due, at in fired)
        assert len(timers) == 0
        nursery.cancel_scope.cancel()


async def test_a_deadline_moves_both_ways(autojump_clock):
    timers = TimerWheel()
    fired: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TimerLoop(timers).run)
        start = trio.current_time()
        watch = timers.watch(start + 5, lambda: fired.append(trio.current_time() - start))
        watch.due = start + 8
        await trio.sleep(6)
        assert fired == []
        timers.move(watch, start + 7)
        await trio.sleep(5)
        assert fired == [pytest.approx(7, abs=TICK_S)]
        timers.move(watch, start + 15)
        await trio.sleep(10)
        assert len(fired) == 2
        nursery.cancel_scope.cancel()
