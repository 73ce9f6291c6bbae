"""Keeps the share of answers that go to the large model at its target, if the calibration is off, and detects drift.

A calibration gives the threshold for a share on its own prompts; on other traffic the realised share differs. The
difference is learnt from recent decisions: with `planned`, the mean share that their thresholds stand for by the
calibration, and `realised`, the share that went to the large model, the next threshold is the one for the share

    expit(logit(goal) - (logit(realised) - logit(planned)))

where `goal` is the target minus the recent error. Every finished answer is added with the threshold of its own
decision, so the estimate is not biased by many answers that are still running.
"""

import math
from collections import deque

import msgspec

from config.model.calibration import Calibration
from policies.cascade.calibration import share_for_threshold, threshold_for_share

_WINDOW = 500
_TOLERANCE = 0.03
"""A deviation of up to three percentage points is not a drift."""
_SIGMAS = 3.0


_MEMORY = 200
"""Decisions: the constant of the exponential averages."""
_PRIOR = 30
"""Weight of the calibration itself, in decisions."""
_MIN_SHARE = 0.005
"""Shares are kept at least this far from 0 and 1, so that some decisions of either kind remain to learn from."""


class ShareView(msgspec.Struct, frozen=True):
    """The target and the realised share of the last decisions."""

    target: float
    realised: float
    decisions: int
    drifted: bool


class ShareTracker(msgspec.Struct, eq=False):
    """Tracks the last `_WINDOW` decisions of one cascade in which it was free to escalate or not."""

    target: float
    _last: deque[bool] = msgspec.field(default_factory=deque)
    _large: int = 0
    _drifted: bool = False

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


class ShareController:
    """The controller of one cascade. Mutable."""

    def __init__(self, target: float, calibration: Calibration) -> None:
        self._target = target
        self._calibration = calibration
        self._decisions = float(_PRIOR)
        self._large = _PRIOR * target
        self._planned = _PRIOR * target

    @property
    def threshold(self) -> float:
        if not 0 < self._target < 1:
            return threshold_for_share(self._calibration, self._target)
        realised, planned = self._large / self._decisions, self._planned / self._decisions
        confidence = min(self._decisions / _MEMORY, 1.0)
        goal = self._target - (realised - self._target) * confidence
        share = _expit(_logit(goal) - (_logit(realised) - _logit(planned)))
        return threshold_for_share(self._calibration, share)

    def add(self, threshold: float, large: bool) -> None:
        planned = 0.0 if threshold == -math.inf else 1.0 if threshold == math.inf else None
        if planned is None:
            planned = share_for_threshold(self._calibration, threshold)
        fade = 1 - 1 / _MEMORY
        self._decisions = self._decisions * fade + 1
        self._large = self._large * fade + large
        self._planned = self._planned * fade + planned


def _logit(share: float) -> float:
    clipped = min(max(share, _MIN_SHARE), 1 - _MIN_SHARE)
    return math.log(clipped / (1 - clipped))


def _expit(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))
