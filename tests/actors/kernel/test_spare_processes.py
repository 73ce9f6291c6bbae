"""Spare processes: at most one, taken once, replaced if it has died, and gone with the event loop."""

import os
import signal
import sys

import trio
import trio.testing

from actors.kernel.spare_processes import SpareProcesses, end_process

WAITS = (sys.executable, "-c", "import sys; sys.stdin.read()")


SOON_S = 10.0
"""By then it is started."""


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def kept(spares: SpareProcesses) -> int:
    """The process that waits once it was started."""
    spares.keep(WAITS)
    await trio.sleep(SOON_S)
    (pid,) = spares.pids
    return pid


async def test_the_spare_one_is_taken_once(autojump_clock: trio.testing.MockClock) -> None:
    spares = SpareProcesses()
    waiting = await kept(spares)
    assert await kept(spares) == waiting, "one is enough"
    first = spares.take(WAITS)
    second = spares.take(WAITS)
    assert (first.pid, spares.pids) == (waiting, [])
    assert second.pid != waiting
    third_waits = await kept(spares)
    third = spares.take(WAITS)
    assert third.pid == third_waits
    await trio.testing.wait_all_tasks_blocked()
    assert first.poll() is second.poll() is third.poll() is None
    for process in (first, second, third):
        end_process(process)


async def test_it_is_not_started_at_once_and_not_at_all_once_it_is_needed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    spares = SpareProcesses()
    spares.keep(WAITS)
    await trio.testing.wait_all_tasks_blocked()
    assert spares.pids == []
    taken = spares.take(WAITS)
    await trio.sleep(SOON_S)
    assert spares.pids == []
    assert taken.poll() is None
    end_process(taken)


async def test_one_that_has_died_is_not_given_out(autojump_clock: trio.testing.MockClock) -> None:
    spares = SpareProcesses()
    first = await kept(spares)
    kill(first)
    dead = await kept(spares)
    assert dead != first, "another one is kept in its place"
    kill(dead)
    taken = spares.take(WAITS)
    assert taken.pid != dead
    assert taken.poll() is None
    end_process(taken)


def test_the_spare_one_ends_with_the_event_loop() -> None:
    pids: list[int] = []

    async def main() -> None:
        pids.append(await kept(SpareProcesses()))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert not is_there(pids[0])
