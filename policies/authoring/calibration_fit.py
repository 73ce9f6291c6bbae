"""Fits a calibration to prompts that both models answered, for `penstock policy calibrate`.

A `PromptModel` is two logistic regressions with a ridge penalty, fitted by Newton's method.
"""

import math
import re
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from config.model.calibration import Calibration, CalibrationError, CalibrationRow, PromptModel
from policies.cascade.calibration import Knots, fit_isotonic, probability_at
from policies.cascade.prompt_model import BUCKETS, LIMIT, priors_of, score_of

Floats: TypeAlias = NDArray[np.float64]

_ROWS = 200
_FOLDS = 5
_BINS = 10
_RIDGE = 50.0
"""Strong enough that single words, such as typos, hardly move a threshold. Measured in docs/cascade.md."""
_MAX_STEPS = 25
_CONVERGED = 1e-8
_INNERMOST = re.compile(r"(?<=\n  )[\[{][^\[\]{}]*[\]}]")
"""An object or array at the second level that contains no other."""


class Scored(msgspec.Struct, frozen=True, gc=False):
    """One prompt that both models answered."""

    score: float
    """The deferral statistic of the small model's answer; finite."""
    small_right: bool
    large_right: bool
    words: tuple[int, ...] = ()
    """Buckets of the prompt's words: see `policies.cascade.prompt_model.words_of`."""


class Fit(msgspec.Struct, frozen=True):
    """The result of `fit`; the fields are those of `Calibration` with the same names."""

    rows: tuple[CalibrationRow, ...]
    small_accuracy: float
    large_accuracy: float
    isotonic: Knots
    error: CalibrationError


def check_enough(prompts: int) -> None:
    """Raises ValueError if they are too few to calibrate on."""
    if prompts < 2 * _FOLDS:
        raise ValueError(f"{prompts} prompts are too few to calibrate on: at least {2 * _FOLDS} are needed")


def fit(scored: Sequence[Scored]) -> Fit:
    """Fit thresholds (by sorting) and probabilities (by isotonic regression; its error by cross-validation).

    Raises:
        ValueError: fewer than ten prompts, or a score that is not finite.
    """
    check_enough(len(scored))
    if not all(math.isfinite(prompt.score) for prompt in scored):
        raise ValueError("every score must be a finite number")
    ordered = sorted(scored, key=lambda prompt: prompt.score)
    count = len(ordered)
    gains = [prompt.large_right - prompt.small_right for prompt in ordered]
    small, large = sum(prompt.small_right for prompt in ordered), sum(prompt.large_right for prompt in ordered)
    rows: list[CalibrationRow] = []
    deferred, right = 0, small
    differing = sum(map(abs, gains))  # prompts on which only one of cascade and large model is right
    for part in range(_ROWS + 1):
        cut = round(part * count / _ROWS)
        threshold = _threshold_before(ordered, cut)
        while deferred < count and ordered[deferred].score < threshold:
            right += gains[deferred]
            differing -= abs(gains[deferred])
            deferred += 1
        lag = (large - right) / count
        lag_error = math.sqrt((differing / count - lag**2) / count)
        row = CalibrationRow(threshold, deferred / count, right / count, lag_error)
        if not rows or row.large_share > rows[-1].large_share:
            rows.append(row)
    return Fit(
        rows=tuple(rows),
        small_accuracy=small / count,
        large_accuracy=large / count,
        isotonic=_fit_probabilities(scored),
        error=_error(scored),
    )


def _threshold_before(ordered: Sequence[Scored], cut: int) -> float:
    """A threshold halfway between the first `cut` scores and the next one; equal scores are never separated."""
    if cut == 0:
        return ordered[0].score
    if cut == len(ordered):
        return math.nextafter(ordered[-1].score, math.inf)
    below, above = ordered[cut - 1].score, ordered[cut].score
    middle = below + (above - below) / 2
    return middle if middle > below else above


def _fit_probabilities(scored: Sequence[Scored]) -> Knots:
    return fit_isotonic([prompt.score for prompt in scored], [prompt.small_right for prompt in scored])


def _error(scored: Sequence[Scored]) -> CalibrationError:
    predictions: list[tuple[float, bool]] = []
    for fold in range(_FOLDS):
        knots = _fit_probabilities([prompt for index, prompt in enumerate(scored) if index % _FOLDS != fold])
        predictions += [(probability_at(knots, prompt.score), prompt.small_right) for prompt in scored[fold::_FOLDS]]
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for probability, right in predictions:
        bins[min(int(probability * _BINS), _BINS - 1)].append((probability, right))
    # A bin adds the distance of its mean prediction from its share of right answers, times its share of all prompts.
    ece = math.fsum(abs(math.fsum(p - right for p, right in one_bin)) for one_bin in bins) / len(predictions)
    brier = math.fsum((p - right) ** 2 for p, right in predictions) / len(predictions)
    return CalibrationError(ece, brier, math.sqrt(0.25 / len(predictions)))


def encode_calibration(calibration: Calibration) -> bytes:
    """JSON with one row or knot per line, so that diffs are readable."""
    text = msgspec.json.format(msgspec.json.encode(calibration), indent=1).decode()
    return (_INNERMOST.sub(lambda match: " ".join(match[0].split()), text) + "\n").encode()


def fit_prompt_model(scored: Sequence[Scored]) -> PromptModel:
    """Fit the prompt model of a calibration.

    Raises:
        ValueError: the small model is not right more often where its statistic is higher.
    """
    words = _table(scored)
    statistic = np.clip([prompt.score for prompt in scored], -LIMIT, LIMIT)[:, None]
    small = _logistic(np.hstack([words, statistic]), np.array([prompt.small_right for prompt in scored], float))
    large = _logistic(words, np.array([prompt.large_right for prompt in scored], float))
    slope = float(small[BUCKETS])
    if slope <= 0:
        raise ValueError("the small model is not righter where it is surer")
    large_odds = words @ large[:BUCKETS] + large[-1]
    return PromptModel(
        slope=slope,
        small_bias=float(small[-1]),
        small_words=tuple(np.round(small[:BUCKETS], 5).tolist()),
        large_bias=float(large[-1]),
        large_words=tuple(np.round(large[:BUCKETS], 5).tolist()),
        small_mean=float((words @ small[:BUCKETS]).mean() + small[-1]),
        large_mean=float((1 / (1 + np.exp(-large_odds))).mean()),
    )


def scores_unseen(scored: Sequence[Scored]) -> list[float]:
    """Cross-validated `score_of` for every prompt. Raises ValueError, see `fit_prompt_model`."""
    scores = [0.0] * len(scored)
    for fold in range(_FOLDS):
        model = fit_prompt_model([prompt for index, prompt in enumerate(scored) if index % _FOLDS != fold])
        for index in range(fold, len(scored), _FOLDS):
            prompt = scored[index]
            scores[index] = score_of(model, priors_of(model, prompt.words), prompt.score)
    return scores


def _table(scored: Sequence[Scored]) -> Floats:
    table = np.zeros((len(scored), BUCKETS))
    for index, prompt in enumerate(scored):
        table[index, list(prompt.words)] = 1.0
    return table


def _logistic(inputs: Floats, right: Floats) -> Floats:
    """Weights, with the bias last. Only the weights of the first `BUCKETS` inputs, the words, are penalised."""
    inputs = np.hstack([inputs, np.ones((len(inputs), 1))])
    penalty = np.full(inputs.shape[1], 1e-6)
    penalty[:BUCKETS] = _RIDGE
    weights = np.zeros(inputs.shape[1])
    for _ in range(_MAX_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (probability - right) + penalty * weights
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs + np.diag(penalty)
        step = np.linalg.solve(curvature, slope)
        weights -= step
        if float(np.abs(step).max()) < _CONVERGED:
            break
    return weights
