"""Reading a calibration: which threshold keeps which promise."""

from bisect import bisect_left
from collections.abc import Sequence

from config.calibration import Calibration
from config.routing import Defer, Target


def threshold_for_share(calibration: Calibration, share: float) -> float:
    """The threshold at which this share of the requests goes to the large model; linear between the rows."""
    rows = calibration.rows
    return _interpolate([row.large_share for row in rows], [row.threshold for row in rows], share)


def share_for_threshold(calibration: Calibration, threshold: float) -> float:
    """The other way round."""
    rows = calibration.rows
    return _interpolate([row.threshold for row in rows], [row.large_share for row in rows], threshold)


def threshold_for_accuracy(calibration: Calibration, fraction_of_large: float) -> float:
    """The smallest threshold from which on the cascade has this fraction of the large model's accuracy."""
    wanted = fraction_of_large * calibration.large_accuracy
    rows = calibration.rows
    enough = len(rows) - 1
    while enough > 0 and rows[enough - 1].accuracy >= wanted:
        enough -= 1
    return rows[enough].threshold


def probability_right(calibration: Calibration, statistic: float) -> float:
    """That the small model's answer with this statistic is right."""
    points = calibration.isotonic
    return _interpolate([score for score, _ in points], [right for _, right in points], statistic)


def threshold_of(defer: Defer, target: Target | None) -> float:
    """Where a cascade starts. A budget starts at a half, and `policies.steering` moves it from there."""
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


def _interpolate(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Piecewise linear, constant outside; `xs` rises, perhaps with equal neighbours."""
    if x <= xs[0]:
        return ys[0]
    if x >= xs[-1]:
        return ys[-1]
    right = bisect_left(xs, x)
    x0, x1, y0, y1 = xs[right - 1], xs[right], ys[right - 1], ys[right]
    if y0 == y1 or x1 == x0:
        return y1
    if y0 in {float("-inf"), float("inf")} or y1 in {float("-inf"), float("inf")}:
        return y0 if y1 in {float("-inf"), float("inf")} else y1
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
