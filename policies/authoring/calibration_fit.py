"""From prompts that both models were asked to thresholds and probabilities: the sums of `penstock policy calibrate`."""

import math
import re
from collections.abc import Sequence

import msgspec

from config.model.calibration import Calibration, CalibrationError, CalibrationRow
from policies.cascade.isotonic import Knots, fit_isotonic, probability_at

_ROWS = 200
_FOLDS = 5
_BINS = 10
_INNERMOST = re.compile(r"(?<=\n  )[\[{][^\[\]{}]*[\]}]")
"""An object or an array, two levels down, that holds no other."""


class Scored(msgspec.Struct, frozen=True, gc=False):
    """One prompt that both models were asked."""

    score: float
    """The deferral statistic of the small model's answer; finite."""
    small_right: bool
    large_right: bool
    words: tuple[int, ...] = ()
    """Of the prompt, see `policies.cascade.prompt_model`."""


class Fit(msgspec.Struct, frozen=True):
    """What `fit` finds; the fields of `Calibration` with the same names."""

    rows: tuple[CalibrationRow, ...]
    small_accuracy: float
    large_accuracy: float
    isotonic: Knots
    error: CalibrationError


def fit(scored: Sequence[Scored]) -> Fit:
    """Fit thresholds and probabilities.

    Raises:
        ValueError: fewer than ten prompts, or a score that is no finite number.
    """
    if len(scored) < 2 * _FOLDS:
        raise ValueError(f"{len(scored)} prompts are too few to calibrate on: at least {2 * _FOLDS} are needed")
    if not all(math.isfinite(each.score) for each in scored):
        raise ValueError("every score must be a finite number")
    ordered = sorted(scored, key=lambda each: each.score)
    count = len(ordered)
    gains = [each.large_right - each.small_right for each in ordered]
    small, large = sum(each.small_right for each in ordered), sum(each.large_right for each in ordered)
    rows: list[CalibrationRow] = []
    deferred, right = 0, small
    apart = sum(map(abs, gains))  # prompts on which the cascade and the large model are not alike
    for part in range(_ROWS + 1):
        cut = round(part * count / _ROWS)
        threshold = _threshold_before(ordered, cut)
        while deferred < count and ordered[deferred].score < threshold:
            right += gains[deferred]
            apart -= abs(gains[deferred])
            deferred += 1
        lag = (large - right) / count
        row = CalibrationRow(threshold, deferred / count, right / count, math.sqrt((apart / count - lag**2) / count))
        if not rows or row.large_share > rows[-1].large_share:
            rows.append(row)
    return Fit(
        rows=tuple(rows),
        small_accuracy=small / count,
        large_accuracy=large / count,
        isotonic=fit_isotonic([each.score for each in scored], [each.small_right for each in scored]),
        error=_error(scored),
    )


def _threshold_before(ordered: Sequence[Scored], cut: int) -> float:
    """A threshold with the first `cut` scores below it, halfway to the next; where equal scores forbid it, fewer."""
    if cut == 0:
        return ordered[0].score
    if cut == len(ordered):
        return math.nextafter(ordered[-1].score, math.inf)
    below, above = ordered[cut - 1].score, ordered[cut].score
    middle = below + (above - below) / 2
    return middle if middle > below else above


def _error(scored: Sequence[Scored]) -> CalibrationError:
    told: list[tuple[float, bool]] = []
    for fold in range(_FOLDS):
        seen = [each for place, each in enumerate(scored) if place % _FOLDS != fold]
        knots = fit_isotonic([each.score for each in seen], [each.small_right for each in seen])
        told += [(probability_at(knots, each.score), each.small_right) for each in scored[fold::_FOLDS]]
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for probability, right in told:
        bins[min(int(probability * _BINS), _BINS - 1)].append((probability, right))
    # Of one bin: how far the mean of what was told is from the share that is right, times the bin's part of all.
    ece = math.fsum(abs(math.fsum(p - right for p, right in each)) for each in bins) / len(told)
    brier = math.fsum((p - right) ** 2 for p, right in told) / len(told)
    return CalibrationError(ece, brier, math.sqrt(0.25 / len(told)))


def encode_calibration(calibration: Calibration) -> bytes:
    """JSON with a row or a knot a line, so that a diff can be read."""
    text = msgspec.json.format(msgspec.json.encode(calibration), indent=1).decode()
    return (_INNERMOST.sub(lambda found: " ".join(found[0].split()), text) + "\n").encode()
