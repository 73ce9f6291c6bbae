"""Reads thresholds from a calibration: for a target share of the large model, or a target accuracy."""

import math

from config.model.calibration import Calibration
from config.model.routing import Defer, Target
from policies.cascade.isotonic import interpolate, probability_at


def threshold_for_share(calibration: Calibration, share: float) -> float:
    """The threshold at which this share of the requests goes to the large model, interpolated linearly between rows.

    A share of 0 is -inf and a share of 1 is inf: a new statistic may lie outside the range of the calibration.
    """
    if share <= 0:
        return -math.inf
    if share >= 1:
        return math.inf
    rows = calibration.rows
    return interpolate([row.large_share for row in rows], [row.threshold for row in rows], share)


def share_for_threshold(calibration: Calibration, threshold: float) -> float:
    """The share of requests that goes to the large model at this threshold: the inverse of `threshold_for_share`."""
    rows = calibration.rows
    return interpolate([row.threshold for row in rows], [row.large_share for row in rows], threshold)


def threshold_for_accuracy(calibration: Calibration, fraction_of_large: float) -> float:
    """The smallest threshold from which on the cascade has this fraction of the large model's accuracy.

    Choosing the best row of a sample overestimates its accuracy (selection bias), so each row counts with its measured
    accuracy minus one standard error.
    """
    goal = fraction_of_large * calibration.large_accuracy
    rows = calibration.rows
    index = len(rows) - 1
    while index > 0 and rows[index - 1].accuracy - rows[index - 1].lag_error >= goal:
        index -= 1
    return rows[index].threshold


def probability_right(calibration: Calibration, statistic: float) -> float:
    """The probability that a small model's answer with this statistic is right."""
    return probability_at(calibration.isotonic, statistic)


def threshold_of(defer: Defer, target: Target | None) -> float:
    """The initial threshold of a cascade; with a budget as the target, the one for a share of 0.5.

    Raises ValueError without a threshold and without a target.
    """
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
