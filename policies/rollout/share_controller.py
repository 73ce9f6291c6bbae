"""Keeps the share of answers that go to the large model at its target, if the calibration is off.

A calibration gives the threshold for a share on its own prompts; on other traffic the realised share differs. The
difference is learnt from recent decisions: with `planned`, the mean share that their thresholds stand for by the
calibration, and `realised`, the share that went to the large model, the next threshold is the one for the share

    expit(logit(goal) - (logit(realised) - logit(planned)))

where `goal` is the target minus the recent error. Every finished answer is added with the threshold of its own
decision, so the estimate is not biased by many answers that are still running.
"""

import math

from config.model.calibration import Calibration
from policies.cascade.calibration import share_for_threshold, threshold_for_share

_MEMORY = 200
"""Decisions: the constant of the exponential averages."""
_PRIOR = 30
"""Weight of the calibration itself, in decisions."""
_MIN_SHARE = 0.005
"""Shares are kept at least this far from 0 and 1, so that some decisions of either kind remain to learn from."""


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
        """The threshold for the next decision."""
        if not 0 < self._target < 1:
            return threshold_for_share(self._calibration, self._target)
        realised, planned = self._large / self._decisions, self._planned / self._decisions
        confidence = min(self._decisions / _MEMORY, 1.0)
        goal = self._target - (realised - self._target) * confidence
        share = _expit(_logit(goal) - (_logit(realised) - _logit(planned)))
        return threshold_for_share(self._calibration, share)

    def add(self, threshold: float, large: bool) -> None:
        """Add a decision: its threshold, and whether the answer went to the large model."""
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
