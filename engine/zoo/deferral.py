"""How well the small model's token margins tell when to ask the large one.

The statistic is the smallest margin over an answer's tokens: the difference, in nats, between the best and the
second best log-probability. Below a threshold the question is escalated. Two yardsticks:

- AUROC: the chance that a right answer has a larger margin than a wrong one;
- APGR (average performance gap recovered; Ong et al., RouteLLM, 2024, section 3.2): the share of the large model's
  lead that a cascade recovers, averaged over the share of questions escalated. Chance gives 0.5; an oracle
  that escalates exactly where it helps, and first, gives the ceiling.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class Outcome(msgspec.Struct, frozen=True):
    """One held-out question: the small model's smallest margin in nats, and who was right."""

    margin: float
    small_right: bool
    large_right: bool


class DeferralPoint(msgspec.Struct, frozen=True):
    """One threshold: answers whose smallest margin is below it go to the large model."""

    threshold: float
    escalated: float
    """Share of the questions, 0 to 1."""
    accuracy: float
    """Share that the cascade answers right, 0 to 1."""


class Deferral(msgspec.Struct, frozen=True):
    """The verdict on the statistic."""

    auroc: float
    apgr: float
    oracle_apgr: float
    normalised_apgr: float
    """(apgr - 0.5) / (oracle_apgr - 0.5): 0 is chance, 1 the oracle."""
    points: tuple[DeferralPoint, ...]


def auroc(outcomes: Sequence[Outcome]) -> float:
    """Area under the ROC curve of the margin as a predictor of the small model's being right; ties count half."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.margin)
    right = sum(outcome.small_right for outcome in ordered)
    wrong = len(ordered) - right
    if not right or not wrong:
        return 0.5
    ranks, start = 0.0, 0
    while start < len(ordered):
        end = start
        while end < len(ordered) and ordered[end].margin == ordered[start].margin:
            end += 1
        ranks += (start + 1 + end) / 2 * sum(outcome.small_right for outcome in ordered[start:end])
        start = end
    return (ranks - right * (right + 1) / 2) / (right * wrong)


def _recovered(ordered: Sequence[Outcome]) -> float:
    """APGR when the questions are escalated in this order."""
    gains = [outcome.large_right - outcome.small_right for outcome in ordered]
    lead = sum(gains)
    if lead <= 0:
        return 0.5
    curve = [0, *accumulate(gains)]
    return sum((before + after) / 2 for before, after in pairwise(curve)) / (lead * len(gains))


def deferral_curve(outcomes: Sequence[Outcome], parts: int = 20) -> Deferral:
    """The yardsticks, and the cascade's accuracy at each `1 / parts` of the questions escalated."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.margin)
    apgr = _recovered(ordered)
    oracle = _recovered(sorted(outcomes, key=lambda outcome: outcome.small_right - outcome.large_right))
    points = []
    for part in range(parts + 1):
        count = round(part * len(ordered) / parts)
        threshold = ordered[count].margin if count < len(ordered) else float("inf")
        escalated = [outcome for outcome in ordered if outcome.margin < threshold]
        kept = ordered[len(escalated) :]
        right = sum(outcome.large_right for outcome in escalated) + sum(outcome.small_right for outcome in kept)
        points.append(DeferralPoint(threshold, len(escalated) / len(ordered), right / len(ordered)))
    headroom = oracle - 0.5
    normalised = (apgr - 0.5) / headroom if headroom else 0.0
    return Deferral(auroc(outcomes), apgr, oracle, normalised, tuple(points))
