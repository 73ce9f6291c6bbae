"""Counterfactual explanations: single changes of a situation that lead to another decision, verified by deciding again.

The closest change is reported for every combination of a changed feature and another outcome.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from policies.authoring.boundaries import Boundaries
from policies.authoring.changes import Axis, SituationChange, Span, axes
from policies.authoring.decision import Decider, DecisionOutcome
from policies.authoring.situation import Situation


class Counterfactual(msgspec.Struct, frozen=True):
    """If only this were different, that would be decided."""

    change: str
    """ "prompt_tokens >= 4000"."""
    now: str
    """The current value: "120"."""
    then: str
    """The decision after the change, as far as it differs from the current one."""
    outcome: DecisionOutcome
    word: str
    value: Any = None
    """The closest value that leads to the outcome."""
    at_least: float | None = None
    below: float | None = None
    """For a number: all values within these bounds lead to the outcome."""
    distance: float = 0.0


def counterfactuals(decider: Decider, base: Situation) -> tuple[Counterfactual, ...]:
    """The closest change of every feature or load value to every other outcome; closest first."""
    return tuple(found for found, _ in changed_decisions(decider, base))


def changed_decisions(decider: Decider, base: Situation) -> tuple[tuple[Counterfactual, Situation], ...]:
    """The counterfactuals with their changed situations."""
    decided = DecisionOutcome.of(decider.decide(base))
    best: dict[tuple[str, DecisionOutcome], tuple[Counterfactual, Situation]] = {}
    for axis in axes(decider, Boundaries.of(decider.settings), base):
        for change, outcome in _runs(axis, decider):
            if outcome == decided:
                continue
            span = change.span or Span(None, None)
            found = Counterfactual(
                change=change.text,
                now=change.now,
                then=outcome.beside(decided),
                outcome=outcome,
                word=change.word,
                value=change.value,
                at_least=span.low,
                below=span.high,
                distance=round(change.distance, 4),
            )
            key = (change.word, outcome)
            if key not in best or found.distance < best[key][0].distance:
                best[key] = (found, change.situation)
    return tuple(sorted(best.values(), key=lambda pair: (pair[0].distance, pair[0].change)))


def _runs(axis: Axis, decider: Decider) -> Iterator[tuple[SituationChange, DecisionOutcome]]:
    """The changes with their outcomes. Adjacent spans of a number with the same outcome are joined."""
    run: tuple[SituationChange, DecisionOutcome] | None = None
    for number, change in enumerate(axis.changes):
        outcome = DecisionOutcome.of(decider.decide(change.situation))
        if run is not None and run[1] == outcome and axis.wanted is not None and number != axis.here:
            run = (axis.joined(run[0], change), outcome)
            continue
        if run is not None:
            yield run
        run = (change, outcome)
    if run is not None:
        yield run
