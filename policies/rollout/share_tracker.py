"""Detects whether the share of a cascade's answers that go to the large model has drifted from its target."""

import math
from collections import deque

import msgspec

_WINDOW = 500
_TOLERANCE = 0.03
"""A deviation of up to three percentage points is not a drift."""
_SIGMAS = 3.0


class ShareView(msgspec.Struct, frozen=True):
    """The target and the realised share of the last decisions."""

    target: float
    realised: float
    decisions: int
    drifted: bool


class ShareTracker:
    """Tracks the last `_WINDOW` decisions of one cascade in which it was free to escalate or not."""

    def __init__(self, target: float) -> None:
        self.target = target
        self._last: deque[bool] = deque()
        self._large = 0
        self._drifted = False

    def add(self, large: bool) -> bool:
        """Add a decision. True if it changes whether the share has drifted."""
        self._last.append(large)
        self._large += large
        if len(self._last) > _WINDOW:
            self._large -= self._last.popleft()
        count = len(self._last)
        deviation = abs(self._large / count - self.target)
        # Near 0 and 1 the binomial variance is too small for few decisions: it is at least that of one count.
        noise = _SIGMAS * math.sqrt(max(self.target * (1 - self.target), 1 / count) / count)
        before = self._drifted
        self._drifted = deviation > max(_TOLERANCE, noise) if not before else deviation > _TOLERANCE
        return before != self._drifted

    @property
    def view(self) -> ShareView:
        count = len(self._last)
        return ShareView(self.target, self._large / count if count else 0.0, count, self._drifted)
