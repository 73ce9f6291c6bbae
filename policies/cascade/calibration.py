"""Reading a calibration: which threshold keeps which promise."""

import math

from config.model.calibration import Calibration
from config.model.routing import Defer, Target
from policies.cascade.isotonic import interpolate, probability_at


def threshold_for_share(calibration: Calibration, share: float) -> float:
    """The threshold at which this share of the requests goes to the large model; linear between the rows.

    No share is -inf and all is inf, because a fresh request's statistic may lie beyond every one that was seen.
    """
    if share <= 0:
        return -math.inf
    if share >= 1:
        return math.inf
    rows = calibration.rows
    return interpolate([row.large_share for row in rows], [row.threshold for row in rows], share)


def share_for_threshold(calibration: Calibration, threshold: float) -> float:
    """The other way round."""
    rows = calibration.rows
    return interpolate([row.threshold for row in rows], [row.large_share for row in rows], threshold)


def threshold_for_accuracy(calibration: Calibration, fraction_of_large: float) -> float:
    """The smallest threshold from which on the cascade has this fraction of the large model's accuracy.

    It is chosen by what the prompts showed, and of what is chosen so the luck does not come back. So it counts with one
    standard error less than was shown.
    """
    wanted = fraction_of_large * calibration.large_accuracy
    rows = calibration.rows
    enough = len(rows) - 1
    while enough > 0 and rows[enough - 1].accuracy - rows[enough - 1].lag_error >= wanted:
        enough -= 1
    return rows[enough].threshold


def probability_right(calibration: Calibration, statistic: float) -> float:
    """That the small model's answer with this statistic is right."""
    return probability_at(calibration.isotonic, statistic)


def threshold_of(defer: Defer, target: Target | None) -> float:
    """Where a cascade starts. A budget starts at a half; `policies.rollout.budget_controller` moves it from there."""
    if defer.threshold is not None:
        return defer.threshold
    calibration = defer.artefact
    if calibration is None or target is None:
        raise ValueError("config.check lets a threshold, or a calibration with a target, through")
    if target.large_share is not None:
        return threshold_for_share(calibration, target.large_share)
    if target.accuracy_of_large is not None:
        return threshold_for_accuracy(calibration, target.accuracy_of_large)
    return threshold_for_share(calibration, 0.5)
