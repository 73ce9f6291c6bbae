"""Conditions as formulas over variables with finitely many values, and a search for values that satisfy them.

DPLL (Davis, Logemann and Loveland 1962) with sets of values in place of truth values. The result is exact, or unknown
when a limit on the effort is reached. Conditions as people write them take a few steps.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, Union

import msgspec

EFFORT = 100_000
"""Limit on the formulas examined by one search; beyond it the result is unknown."""
_TOTAL_EFFORT = 500_000

Point = Mapping[str, int]
"""By variable, the remaining values, as bits. Any choice among them satisfies the formulas of the search."""


class Effort(msgspec.Struct):
    """The remaining effort of all searches for one file. It limits them to seconds, however many routes there are."""

    left: int = _TOTAL_EFFORT


class Within(msgspec.Struct, frozen=True):
    """The variable has one of these values, as bits."""

    variable: str
    values: int


class Every(msgspec.Struct, frozen=True):
    """The conjunction of the parts; without parts true."""

    parts: tuple["Formula", ...]


class Some(msgspec.Struct, frozen=True):
    """The disjunction of the parts; without parts false."""

    parts: tuple["Formula", ...]


Formula = Union[Within, Every, Some]  # noqa: UP007  (the classes refer to it before it is defined)

TRUE = Every(())
FALSE = Some(())


def negated(formula: Formula, domains: Mapping[str, int]) -> Formula:
    """The negation of the formula. `domains`: all values of every variable, as bits."""
    match formula:
        case Within(variable, values):
            return Within(variable, domains[variable] & ~values)
        case Every(parts):
            return Some(tuple(negated(part, domains) for part in parts))
        case Some(parts):
            return Every(tuple(negated(part, domains) for part in parts))


def can_hold(formulas: Iterable[Formula], domains: Mapping[str, int], effort: Effort | None = None) -> bool | None:
    """Whether some values satisfy all formulas; None if the effort did not suffice."""
    point = find(formulas, domains, effort)
    return point if point is None or point is False else True


def find(
    formulas: Iterable[Formula], domains: Mapping[str, int], effort: Effort | None = None
) -> Point | Literal[False] | None:
    """Values that satisfy all formulas; variables that are not in it may have any value. False: there are none.

    None if the effort did not suffice.
    """
    max_effort = EFFORT if effort is None else min(EFFORT, effort.left)
    search = _Search(domains)
    states: list[tuple[dict[str, int], list[Formula]]] = [({}, list(formulas))]
    try:
        while states:
            narrowed, todo = states.pop()
            open_ = search.propagate(narrowed, todo)
            if search.effort > max_effort:
                return None
            if open_ is None:
                continue
            if not open_:
                return narrowed
            choice = min(range(len(open_)), key=lambda index: len(open_[index].parts))
            others = [*open_[:choice], *open_[choice + 1 :]]
            states.extend((dict(narrowed), [part, *others]) for part in reversed(open_[choice].parts))
        return False
    finally:
        if effort is not None:
            effort.left -= search.effort


def holds_at(formula: Formula, point: Mapping[str, int]) -> bool:
    """Whether it holds at the point, which gives a variable one value; others have their first value."""
    match formula:
        case Within(variable, values):
            return bool(point.get(variable, 1) & values)
        case Every(parts):
            return all(holds_at(part, point) for part in parts)
        case Some(parts):
            return any(holds_at(part, point) for part in parts)


class _Search(msgspec.Struct):
    domains: Mapping[str, int]
    effort: int = 0

    def propagate(self, narrowed: dict[str, int], todo: list[Formula]) -> list[Some] | None:
        """Unit propagation: narrow the variables. Returns the remaining disjunctions, or None for a contradiction."""
        while True:
            before = dict(narrowed)
            choices: list[Some] = []
            pending = list(todo)
            while pending:
                match self._simplified(pending.pop(), narrowed):
                    case Within(variable, values):
                        narrowed[variable] = values
                    case Every(parts):
                        pending.extend(parts)
                    case Some(parts) as choice:
                        if not parts:
                            return None
                        choices.append(choice)
            if narrowed == before:
                return choices
            todo = list(choices)

    def _simplified(self, formula: Formula, narrowed: Mapping[str, int]) -> Formula:
        """The formula simplified for the narrowed variables; TRUE or FALSE if they decide it."""
        self.effort += 1
        match formula:
            case Within(variable, values):
                now = narrowed.get(variable, self.domains[variable])
                left = now & values
                if left == now:
                    return TRUE
                return Within(variable, left) if left else FALSE
            case Every(parts):
                kept: list[Formula] = []
                for part in parts:
                    simple = self._simplified(part, narrowed)
                    if simple == FALSE:
                        return FALSE
                    if simple != TRUE:
                        kept.append(simple)
                return kept[0] if len(kept) == 1 else Every(tuple(kept))
            case Some(parts):
                return self._choice(parts, narrowed)

    def _choice(self, parts: tuple[Formula, ...], narrowed: Mapping[str, int]) -> Formula:
        values: dict[str, int] = {}
        kept: list[Formula] = []
        for part in parts:
            simple = self._simplified(part, narrowed)
            if simple == TRUE:
                return TRUE
            if isinstance(simple, Within):
                values[simple.variable] = values.get(simple.variable, 0) | simple.values
            elif simple != FALSE:
                kept.append(simple)
        for variable, union in values.items():
            if union == narrowed.get(variable, self.domains[variable]):
                return TRUE
            kept.append(Within(variable, union))
        return kept[0] if len(kept) == 1 else Some(tuple(kept))
