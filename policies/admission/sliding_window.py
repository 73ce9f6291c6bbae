"""A sum over the last so many seconds, in slices."""

from bisect import bisect_left
from collections import deque

import msgspec

from policies.errors import IntegrityError


class Slice(msgspec.Struct, gc=False):
    """What was added in one slice of time. A handle: amounts may be corrected while the slice counts."""

    start: float
    amount: int = 0
    live: bool = True


class SlidingWindow:
    """Amounts count from when they are added until their slice is wholly older than the window.

    So an amount counts for at least `over_s` and at most `over_s + slice_s`: the limit is never exceeded within any
    window. O(1) amortised, at most `over_s / slice_s + 1` slices of memory.
    """

    def __init__(self, over_s: float, slice_s: float) -> None:
        self._over_s = over_s
        self._slice_s = slice_s
        self._slices: deque[Slice] = deque()
        self._sum = 0

    def sum(self, now: float) -> int:
        """What counts at `now`."""
        slices = self._slices
        while slices and slices[0].start + self._slice_s + self._over_s <= now:
            old = slices.popleft()
            old.live = False
            self._sum -= old.amount
        return self._sum

    def add(self, amount: int, now: float) -> Slice:
        """Count an amount from now on."""
        slices = self._slices
        if not slices or now >= slices[-1].start + self._slice_s:
            # Aligned to multiples of the slice, or steady traffic would make one slice for each addition.
            slices.append(Slice(now // self._slice_s * self._slice_s))
        last = slices[-1]
        last.amount += amount
        self._sum += amount
        return last

    def restore(self, amount: int, at: float) -> None:
        """Count an amount that was added then; in any order."""
        start = at // self._slice_s * self._slice_s
        place = bisect_left(self._slices, start, key=lambda each: each.start)
        if place == len(self._slices) or self._slices[place].start != start:
            self._slices.insert(place, Slice(start))
        self._slices[place].amount += amount
        self._sum += amount

    def correct(self, handle: Slice, by: int) -> None:
        """Change an amount added before; without effect once it does not count any more."""
        if handle.live:
            handle.amount += by
            self._sum += by

    def fits_in_s(self, room_for: int, limit: int, now: float) -> float | None:
        """How long until `room_for` more stay within `limit` if nothing is added meanwhile; None: never."""
        if room_for > limit:
            return None
        excess = self.sum(now) + room_for - limit
        if excess <= 0:
            return 0.0
        for old in self._slices:
            excess -= old.amount
            if excess <= 0:
                return old.start + self._slice_s + self._over_s - now
        raise IntegrityError("the window's sum exceeds its slices")

    def empties_in_s(self, now: float) -> float:
        """How long until nothing counts any more if nothing is added meanwhile."""
        if self.sum(now) == 0:
            return 0.0
        last = next(each for each in reversed(self._slices) if each.amount)
        return last.start + self._slice_s + self._over_s - now

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if the sum is not that of the slices, or one of them is negative."""
        if self._sum != sum(s.amount for s in self._slices) or any(s.amount < 0 for s in self._slices):
            raise IntegrityError("the window's sum differs from its slices")
