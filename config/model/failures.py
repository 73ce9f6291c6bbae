"""Settings of what happens when an engine crashes, or when nothing makes progress."""

from typing import Annotated

from config.model.bounds import Count, within
from config.model.table import NonNegativeSeconds, PositiveSeconds, Seconds, Table


class QuarantineSettings(Table, frozen=True):
    """What happens to requests that were running when an engine crashed, as one of them may be the cause."""

    crashes: Annotated[int, within(2)] = 2
    """After so many crashes a request is refused (422 `request_quarantined`). After fewer it runs alone."""
    keep: PositiveSeconds = Seconds(3600)
    """For how long after the last crash."""
    alone: NonNegativeSeconds = Seconds(10)
    """Nothing is started beside a request that was running at a crash for this long; 0: it need not run alone."""
    entries: Count = 1024
    """How many requests are remembered; beyond it the oldest is forgotten."""


class WatchdogSettings(Table, frozen=True):
    """When the process ends, with exit code 70, because a part that every request needs makes no progress.

    Engines have `stall` and `load_stall`.
    """

    event_loop: NonNegativeSeconds = Seconds(60)
    """0: never. The stacks of all threads are written to standard error first."""
    ledger: NonNegativeSeconds = Seconds(300)
    """For a commit that does not return; a file that another process has locked is waited for. Running answers get
    their error event first. 0: never."""
