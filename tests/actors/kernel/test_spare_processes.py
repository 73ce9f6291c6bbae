"""Spare processes: at most one, taken once, replaced if it has died, and gone with the event loop."""

import os
import signal
import sys

import trio
import trio.testing

from actors.kernel.spare_processes import SpareProcesses, end_process

WAITS = (sys.executable, "-c", "import sys; sys.stdin.read()")


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_the_spare_one_is_taken_once():
    spares = SpareProcesses()
    spares.keep(WAITS)
    spares.keep(WAITS)
    first = spares.take(WAITS)
    second = spares.take(WAITS)
    spares.keep(WAITS)
    third = spares.take(WAITS)
    assert first.pid < second.pid < third.pid, "a process for each start, and the spare one first"
    await trio.testing.wait_all_tasks_blocked()
    assert first.poll() is second.poll() is third.poll() is None
    for process in (first, second, third):
        end_process(process)


async def test_one_that_has_died_is_not_given_out():
    spares = SpareProcesses()
    spares.keep(WAITS)
    dead = spares.take(WAITS)
    spares.keep(WAITS)
    (spare,) = spares._spares.values()
    os.kill(spare.process.pid, signal.SIGKILL)
    spare.process.wait()
    taken = spares.take(WAITS)
    assert taken.poll() is None
    for process in (dead, taken):
        end_process(process)


def test_the_spare_one_ends_with_the_event_loop():
    pids = []

    async def main() -> None:
        spares = SpareProcesses()
        spares.keep(WAITS)
        pids.extend([spare.process.pid for spare in spares._spares.values()])

    trio.run(main)
    assert not is_there(pids[0])
