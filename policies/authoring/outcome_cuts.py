"""Where, along a number that no condition names, the outcome changes: a model's length, what is left of a budget.

Found by bisection: of several changes between two neighbouring bounds, those that cancel out may be missed.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

from policies.authoring.decision import DecisionOutcome

LARGEST = 2**31
"""No longer prompt or answer is looked at."""


def outcome_cuts(
    outcome_at: Callable[[float], DecisionOutcome], edges: Iterable[float], *, whole: bool
) -> Iterator[float]:
    """The first values of other outcomes than those of the values just below; `edges` rise, the last is looked at."""
    ends = list(edges)
    spans = [(low, _below(high, whole=whole)) for low, high in itertools.pairwise(ends)]
    spans += [(_below(edge, whole=whole), edge) for edge in ends[1:-1]]
    while spans:
        low, high = spans.pop()
        if low >= high or outcome_at(low) == outcome_at(high):
            continue
        middle = (low + high) // 2 if whole else (low + high) / 2
        if low < middle < high:
            spans += [(low, middle), (middle, high)]
        else:
            yield high


def _below(value: float, *, whole: bool) -> float:
    return value - 1 if whole else math.nextafter(value, -math.inf)
