"""How the service stops: serving → draining → stopping → dead, never backwards, each within a bounded time.

draining: not ready, new requests are refused, running answers continue until the deadline. stopping: answers that are
still running get their terminal error; then the ledger is flushed. dead: the process may end.
"""

from typing import Literal

import msgspec

DrainState = Literal["serving", "draining", "stopping", "dead"]
DrainAction = Literal["refuse_new", "end_running", "close_ledger", "exit"]


class DrainStatistics(msgspec.Struct, frozen=True):
    """The drain's state."""

    state: DrainState
    deadline: float | None
    cut: int
    """Answers that were still running when the deadline passed."""


class Drain:
    """Decides; the caller executes the actions in order. `running` is the number of answers that have not ended."""

    def __init__(self) -> None:
        self.state: DrainState = "serving"
        self.deadline: float | None = None
        """When running answers are ended, once draining."""
        self._cut = 0

    def begin(self, deadline: float, running: int, now: float) -> tuple[DrainAction, ...]:
        """Start to drain, for example after SIGTERM. A second call may only bring the deadline forward."""
        if self.state == "serving":
            self.state = "draining"
            self.deadline = deadline
            return ("refuse_new", *self.update(running, now))
        if self.deadline is not None:
            self.deadline = min(self.deadline, deadline)
        return self.update(running, now)

    def update(self, running: int, now: float) -> tuple[DrainAction, ...]:
        """An answer ended, or time passed."""
        if self.state != "draining" or self.deadline is None or (running and now < self.deadline):
            return ()
        self.state = "stopping"
        self._cut = running
        return ("end_running", "close_ledger") if running else ("close_ledger",)

    def ledger_closed(self) -> tuple[DrainAction, ...]:
        if self.state != "stopping":
            return ()
        self.state = "dead"
        return ("exit",)

    def statistics(self) -> DrainStatistics:
        return DrainStatistics(self.state, self.deadline, self._cut)
