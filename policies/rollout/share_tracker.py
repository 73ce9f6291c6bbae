"""Whether a cascade sends to the large model what its target promised."""

import math
from collections import deque

import msgspec

_WINDOW = 500
_TOLERANCE = 0.03
"""Within three points of the target nothing has drifted."""
_SIGMAS = 3.0


class ShareView(msgspec.Struct, frozen=True):
    """Of the last decisions."""

    target: float
    realised: float
    decisions: int
    drifted: bool


class ShareTracker:
    """Looks at the last `_WINDOW` decisions of one cascade: those in which it was free to choose."""

    def __init__(self, target: float) -> None:
        self.target = target
        self._last: deque[bool] = deque()
        self._large = 0
        self._drifted = False

    def add(self, large: bool) -> bool:
        """One decision; True if the verdict has just changed."""
        self._last.append(large)
        self._large += large
        if len(self._last) > _WINDOW:
            self._large -= self._last.popleft()
        count = len(self._last)
        off = abs(self._large / count - self.target)
        # A narrow target has little room below; one count of slack keeps the deviation honest there.
        noise = _SIGMAS * math.sqrt(max(self.target * (1 - self.target), 1 / count) / count)
        before = self._drifted
        self._drifted = off > max(_TOLERANCE, noise) if not before else off > _TOLERANCE
        return before != self._drifted

    @property
    def view(self) -> ShareView:
        """As of now."""
        count = len(self._last)
        return ShareView(self.target, self._large / count if count else 0.0, count, self._drifted)
