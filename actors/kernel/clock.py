"""The one place in `actors` that reads the machine's wall clock: everything else is given a `WallClock`."""

import time
from collections.abc import Callable

WallClock = Callable[[], float]
"""Seconds since 1970. Budgets, experiments and the ledger follow it; deadlines follow trio's clock."""


def system_time() -> float:
    """The machine's clock."""
    return time.time()
