"""A sum over a sliding window of time, kept in slices."""

from bisect import bisect_left
from collections import deque

import msgspec

from policies.errors import IntegrityError


class Slice(msgspec.Struct, gc=False):
    """The amount added in one slice of time. It can be corrected as long as the slice is in the window."""

    start: float
    amount: int = 0
    live: bool = True


class SlidingWindow(msgspec.Struct, eq=False):
    """An amount counts from when it is added until its whole slice is older than the window.

    So it counts for at least `over_s` and at most `over_s + slice_s`: no window of `over_s` ever exceeds the limit.
    O(1) amortised, with at most `over_s / slice_s + 1` slices in memory.
    """

    _over_s: float
    _slice_s: float
    _slices: deque[Slice] = msgspec.field(default_factory=deque)
    _sum: int = 0

    def sum(self, now: float) -> int:
        slices = self._slices
        while slices and slices[0].start + self._slice_s + self._over_s <= now:
            old = slices.popleft()
            old.live = False
            self._sum -= old.amount
        return self._sum

    def add(self, amount: int, now: float) -> Slice:
        slices = self._slices
        if not slices or now >= slices[-1].start + self._slice_s:
            # Aligned to multiples of the slice: otherwise steady traffic would create one slice per call.
            slices.append(Slice(now // self._slice_s * self._slice_s))
        last = slices[-1]
        last.amount += amount
        self._sum += amount
        return last

    def restore(self, amount: int, at: float) -> None:
        """Add an amount at an earlier time. Calls may come in any order."""
        start = at // self._slice_s * self._slice_s
        index = bisect_left(self._slices, start, key=lambda old: old.start)
        if index == len(self._slices) or self._slices[index].start != start:
            self._slices.insert(index, Slice(start))
        self._slices[index].amount += amount
        self._sum += amount

    def correct(self, handle: Slice, by: int) -> None:
        """Change an amount added before; without effect if its slice has left the window."""
        if handle.live:
            handle.amount += by
            self._sum += by

    def fits_in_s(self, amount: int, limit: int, now: float) -> float | None:
        """Seconds until the sum plus `amount` is within `limit` if nothing else is added; None: never."""
        if amount > limit:
            return None
        excess = self.sum(now) + amount - limit
        if excess <= 0:
            return 0.0
        for old in self._slices:
            excess -= old.amount
            if excess <= 0:
                return old.start + self._slice_s + self._over_s - now
        raise IntegrityError("the window's sum exceeds its slices")

    def empties_in_s(self, now: float) -> float:
        """Seconds until the sum is 0 if nothing else is added."""
        if self.sum(now):
            for last in reversed(self._slices):
                if last.amount:
                    return last.start + self._slice_s + self._over_s - now
        return 0.0

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if the sum differs from that of the slices, or a slice is negative."""
        if self._sum != sum(s.amount for s in self._slices) or any(s.amount < 0 for s in self._slices):
            raise IntegrityError("the window's sum differs from its slices")
