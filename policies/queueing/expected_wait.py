"""How long a newcomer of a line waits at the measured rate, and whether that is too long for it.

Work of higher tiers is before it, and of its own tier what begun work, earlier deadlines and tenants with smaller
counters have. While its tenant is refused for such waits, only as many wait as its turns need (`LineLoad`).
"""

from collections.abc import Iterator
from itertools import takewhile
from typing import Generic

from policies.queueing.line_load import LineLoad
from policies.queueing.queue_item import QueueFull, QueueItem
from policies.queueing.tenant_queue import NEWCOMERS, Entry, Line, T, Tier, due_before
from policies.queueing.work_rate import WorkRate

_LEAST_LEFT = 0.05
"""Of the backend, for a tier, however much the tiers above took lately."""


class ExpectedWait(Generic[T]):
    """Of the lines of one queue. Of what it is given it changes only the lines' loads and the rate of work."""

    def __init__(self, work: WorkRate) -> None:
        """`work`: of the queue's backend."""
        self._work = work
        self.by_priority: list[Tier[T]] = []
        """All tiers, the highest first."""

    def overdue(self, line: Line[T], item: T, work: int, now: float) -> QueueFull | None:
        """Why a newcomer is refused for its wait, or since enough of its tenant wait; None: it is not."""
        load = line.load
        load.offered(now)
        if item.first_by is None:
            return None
        allowed_s = item.first_by - now - line.of.tier.first.allowance_s
        wait_s = self._wait_s(line, item, work, now)
        full = self._too_long(wait_s, allowed_s, now)
        if full is None and load.is_overloaded:
            beyond = wait_s is not None and wait_s * load.caution > allowed_s
            full = self._overload(load, now) if beyond else self.too_many(line, load, item, now)
        if full is not None:
            load.refused(now)
            self._work.refused(work, now)
        return full

    def too_many(self, line: Line[T], load: LineLoad, item: QueueItem, now: float) -> QueueFull | None:
        """Why a newcomer is refused because enough wait before it; None: it is not."""
        return self._overload(load, now) if due_before(line, item.deadline)[0] >= load.enough else None

    def hopeless(self, entry: Entry[T], now: float) -> QueueFull | None:
        """Why one that waits is given up: the best that the figures allow is too late."""
        item, line = entry.item, entry.line
        if item.first_by is None:
            return None
        wait_s = self._wait_s(line, item, entry.work, now, is_in=True)
        return self._too_long(wait_s, item.first_by - now - line.of.tier.first.least_s, now)

    def _overload(self, load: LineLoad, now: float) -> QueueFull:
        return QueueFull("overload", self._work.come_back_s(0.0, now), 1.0, load.ratio)

    def _too_long(self, wait_s: float | None, allowed_s: float, now: float) -> QueueFull | None:
        if wait_s is None or wait_s <= allowed_s:
            return None
        back_s = self._work.come_back_s(wait_s - max(allowed_s, 0.0), now)
        return QueueFull("wait_too_long", back_s, allowed_s, wait_s)

    def _wait_s(self, line: Line[T], item: T, work: int, now: float, *, is_in: bool = False) -> float | None:
        """The expected wait; None: it cannot be known. `is_in`: at best, of one that waits in the line already."""
        above, beside = self._ahead(line, item.deadline)
        beside -= work if is_in else 0
        if above + beside <= 0:
            return 0.0
        return self._work.wait_s(above + (beside + work) / self._left_for(line.of.tier), now, at_best=is_in)

    def _left_for(self, tier: Tier[T]) -> float:
        """The share of the backend that higher tiers leave, as of late: more of their jobs will come."""
        above = sum([each.taken for each in self._above(tier)])
        total = sum([each.taken for each in self.by_priority])
        return max(1 - above / total, _LEAST_LEFT) if total else 1.0

    def _above(self, tier: Tier[T]) -> Iterator[Tier[T]]:
        return takewhile(lambda each: each is not tier, self.by_priority)

    def _ahead(self, line: Line[T], deadline: float) -> tuple[float, float]:
        """Work of higher tiers and of its own that is served before what joins the line with this deadline."""
        own, tier = line.of, line.of.tier
        ahead = 0.0
        _, before = due_before(line, deadline)
        reached = own.counter + before * own.per_token
        for group in tier.groups:
            for _, _, each in group:
                if each is line:
                    continue
                if each.group != NEWCOMERS or each.of is own:
                    ahead += each.work
                elif each.count and (lead := reached - each.of.counter) > 0:
                    # Of another tenant, what it may have until its counter is where this one's will be.
                    ahead += min(each.work, lead / each.of.per_token)
        return sum([other.work for other in self._above(tier)]), ahead + before
