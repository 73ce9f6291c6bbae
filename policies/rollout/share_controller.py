"""Keeps the share of answers that go to the large model at its target, whatever the calibration says.

A calibration tells the threshold for a share on the prompts that it was made from. On others the share that comes of it
differs. How far is learnt from the last decisions: with `planned`, the mean of the shares that their thresholds stood
for, and `came`, the share that went to the large model, the next threshold is the one for the share

    expit(logit(goal) - (logit(came) - logit(planned)))

where `goal` is the target, corrected by what the last decisions missed it by. Decisions whose answers are still under
way are not needed for that: each ending says what its own decision was planned with, so many at once do no harm.
"""

import math

from config.model.calibration import Calibration
from policies.cascade.calibration import share_for_threshold, threshold_for_share

_MEMORY = 200
"""Decisions: an exponential mean forgets with it."""
_PRIOR = 30
"""Decisions that the calibration's own word counts for."""
_LEAST = 0.005
"""Shares are kept so far from 0 and 1, so that what happens can still be seen."""


class ShareController:
    """One cascade's. Mutable."""

    def __init__(self, target: float, calibration: Calibration) -> None:
        self._target = target
        self._calibration = calibration
        self._decisions = float(_PRIOR)
        self._large = _PRIOR * target
        self._planned = _PRIOR * target

    @property
    def threshold(self) -> float:
        """For the next decision."""
        if not 0 < self._target < 1:
            return threshold_for_share(self._calibration, self._target)
        came, planned = self._large / self._decisions, self._planned / self._decisions
        trusted = min(self._decisions / _MEMORY, 1.0)
        goal = self._target - (came - self._target) * trusted
        share = _expit(_logit(goal) - (_logit(came) - _logit(planned)))
        return threshold_for_share(self._calibration, share)

    def add(self, threshold: float, large: bool) -> None:
        """One decision: the threshold that it was taken with, and whether the answer went to the large model."""
        planned = 0.0 if threshold == -math.inf else 1.0 if threshold == math.inf else None
        if planned is None:
            planned = share_for_threshold(self._calibration, threshold)
        fade = 1 - 1 / _MEMORY
        self._decisions = self._decisions * fade + 1
        self._large = self._large * fade + large
        self._planned = self._planned * fade + planned


def _logit(share: float) -> float:
    kept = min(max(share, _LEAST), 1 - _LEAST)
    return math.log(kept / (1 - kept))


def _expit(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))
