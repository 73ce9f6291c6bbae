"""The work that a backend takes from its queue per second, and from it the expected wait and a true `Retry-After`.

Work is counted in the virtual tokens of the fair queue: prompt tokens, and twice the output tokens. How long an answer
becomes is not known before, so a job counts with the mean output of those before it, and at most with its own limit.

A refused client is given the time after which the work that was ahead of it, and that of all who were refused before
it, is done: clients who come back when they were told to come one after the other, at the rate at which they can be
served. Otherwise all of them would come back at the end of the same short wait, and most would be refused again.
"""

import math

import msgspec

from policies.queueing.drain_rate import DrainRate
from policies.queueing.queue_item import QueueItem

PROMPT_TOKEN_COST = 1.0
OUTPUT_TOKEN_COST = 2.0
_SHORTEST_S = 0.1
_LONGEST_S = 60.0
TAKEN_KEPT = 0.98
"""Of the mean output's memory, with each job: the last fifty or so count."""


class WorkRate(msgspec.Struct, eq=False):
    """Mutable; part of a fair queue."""

    rate: DrainRate = msgspec.field(default_factory=DrainRate)
    _jobs: float = 0.0
    _made: float = 0.0
    _unfolded: int = 0
    """Output tokens since the last job was taken."""
    _last: int = 0
    """Work of the last job that was taken while others waited."""
    _refused: float = 0.0
    """Work that was sent away and may come back, less what was served since."""
    _refused_at: float = -math.inf

    def of(self, item: QueueItem) -> int:
        """The expected work of a job."""
        output = item.tokens - item.prompt_tokens
        if self._jobs:
            output = min(output, math.ceil((self._made + self._unfolded) / self._jobs))
        return max(int(item.prompt_tokens * PROMPT_TOKEN_COST + output * OUTPUT_TOKEN_COST), 1)

    def taken(self, work: int, now: float) -> None:
        self._jobs = self._jobs * TAKEN_KEPT + 1
        self._made = (self._made + self._unfolded) * TAKEN_KEPT
        self._unfolded = 0
        if self.rate.is_running:
            self._last = work
            self.rate.served(work, now)

    def made(self, tokens: int) -> None:
        self._unfolded += tokens

    def wait_s(self, work: float, now: float, *, at_best: bool = False) -> float | None:
        """How long it takes; None while the rate is unknown.

        Between two jobs the measured rate falls as time passes, at first to a half, so one more job is counted.
        `at_best`: if so many more had been taken as chance could have kept back (two standard deviations of a count).
        """
        if not self._last:
            return None
        rate = self._rate(now)
        if at_best:
            rate *= 1 + (2 * math.sqrt(self._counted) + 1) / (self._counted + 1)
        return work / rate

    def _rate(self, now: float) -> float:
        return self.rate.rate_with(self._last, now)

    @property
    def _counted(self) -> float:
        """About so many jobs are in the measured rate."""
        return self.rate.weight / self._last

    def in_s(self, seconds: float) -> float:
        """Work that is done in this time, as last measured; 0 while the rate is unknown."""
        return self.rate.last_rate * seconds

    def come_back_s(self, excess_s: float, now: float) -> float:
        """When a job that is refused now would get in: its wait is too long by `excess_s`.

        Where nothing was measured yet, what was refused before is not counted.
        """
        rate = self._rate(now)
        ahead_s = self._may_come_back(rate, now) / rate if rate > 0 else 0.0
        return min(max(excess_s + ahead_s, _SHORTEST_S), _LONGEST_S)

    def refused(self, work: int, now: float) -> None:
        """A job of so much work was refused: it may come back before those that are refused after it."""
        self._refused, self._refused_at = self._may_come_back(self._rate(now), now) + work, now

    def _may_come_back(self, rate: float, now: float) -> float:
        """Work that was refused and may not have come back yet."""
        passed_s = now - self._refused_at
        left = self._refused - rate * passed_s if math.isfinite(passed_s) else 0.0
        return min(max(left, 0.0), rate * _LONGEST_S)
