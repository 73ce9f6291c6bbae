"""Fits a `PromptModel`: two logistic regressions with a ridge penalty, by Newton's method."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from config.model.calibration import PromptModel
from policies.authoring.calibration_fit import Scored
from policies.cascade.prompt_model import BUCKETS, LIMIT, priors_of, score_of

Floats: TypeAlias = NDArray[np.float64]

_RIDGE = 50.0
"""Strong enough that single words, such as typos, hardly move a threshold. Measured in docs/cascade.md."""
_MAX_STEPS = 25
_FOLDS = 5
_CONVERGED = 1e-8


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
