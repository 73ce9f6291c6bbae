"""Deadlines that can be moved, and what is called at them."""

from itertools import count

import pytest
import trio
from structlog.testing import capture_logs

from actors.kernel.supervisor import Child, Supervisor
from actors.kernel.timers import TICK_S, Timer, TimerLoop, TimerWheel


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


async def test_a_callback_that_raises_costs_no_other_timer_anything(autojump_clock):
    timers = TimerWheel()
    fired: list[str] = []

    def breaks() -> None:
        raise ValueError("a fault of ours")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(TimerLoop(timers).run)
        due = trio.current_time() + 1
        # All of one slice.
        timers.watch(due, lambda: fired.append("before"))
        broken = timers.watch(due, breaks)
        after = timers.watch(due, lambda: fired.append("after"))
        with capture_logs() as logs:
            await trio.sleep(2)
        assert fired == ["before", "after"]
        assert [each["event"] for each in logs] == ["timer_callback_failed"]
        timers.cancel(after)
        timers.cancel(broken)
        timers.move(after, trio.current_time() + 1)
        await trio.sleep(2)
        assert fired == ["before", "after", "after"]
        assert len(timers) == 0
        nursery.cancel_scope.cancel()


async def test_a_callback_may_cancel_and_move_timers_of_its_own_slice(autojump_clock):
    timers = TimerWheel()
    fired: list[str] = []
    later: list[Timer] = []

    def first() -> None:
        fired.append("first")
        timers.cancel(later[0])
        timers.move(later[1], trio.current_time() + 5)
        # Due at once, in the very slice that is being fired.
        timers.watch(trio.current_time(), lambda: fired.append("at once"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(TimerLoop(timers).run)
        due = trio.current_time() + 1
        timers.watch(due, first)
        later += [
            timers.watch(due, lambda: fired.append("cancelled")),
            timers.watch(due, lambda: fired.append("moved")),
        ]
        await trio.sleep(2)
        assert fired == ["first", "at once"]
        await trio.sleep(5)
        assert fired == ["first", "at once", "moved"]
        assert len(timers) == 0
        nursery.cancel_scope.cancel()


async def test_timers_outlive_the_loop_that_fires_them(autojump_clock):
    timers, lives = TimerWheel(), count(1)

    class Dies(TimerLoop):
        async def run(self) -> None:
            with trio.move_on_after(0.5 if next(lives) == 1 else float("inf")):
                await super().run()

    fired: list[float] = []
    async with trio.open_nursery() as nursery:
        timers.watch(trio.current_time() + 1, lambda: fired.append(trio.current_time()))
        supervisor = Supervisor([Child("timers", lambda: Dies(timers))])
        await nursery.start(supervisor.run)
        await trio.sleep(2)
        assert (len(fired), supervisor.restarts) == (1, {"timers": 1})
        nursery.cancel_scope.cancel()
