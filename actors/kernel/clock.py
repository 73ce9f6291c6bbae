"""The clocks: the machine's wall clock, which `actors` reads here only, and the event loop's."""

import time
from collections.abc import Callable

import trio

WallClock = Callable[[], float]
"""Seconds since 1970. Budgets, experiments and the ledger follow it; deadlines follow trio's clock."""


system_time: WallClock = time.time
"""The machine's clock."""


def loop_clock() -> Callable[[], float]:
    """The clock of the event loop that runs, to be kept by what reads it for every request.

    `trio.current_time` finds it anew each time: three calls instead of one.
    """
    return trio.lowlevel.current_clock().current_time
