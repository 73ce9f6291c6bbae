"""Conditions as formulas over variables with finitely many values, and whether some request can meet them.

A plain search (Davis, Logemann and Loveland 1962, with sets of values in place of truth values): exact, and bounded by
its effort. The conditions that people write are decided in a few steps.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, Union

import msgspec

EFFORT = 100_000
"""Formulas looked at for one question, after which nothing is claimed."""
_EFFORT_IN_ALL = 500_000

Point = Mapping[str, int]
"""For each variable the values that are left; every choice among them meets what was asked."""


class Effort:
    """What all questions about one file may take together: seconds, however many routes there are."""

    def __init__(self) -> None:
        self.left = _EFFORT_IN_ALL


class Within(msgspec.Struct, frozen=True):
    """The variable's value is one of these: bits, one a value."""

    variable: str
    values: int


class Every(msgspec.Struct, frozen=True):
    """All of the parts; of none: true."""

    parts: tuple["Formula", ...]


class Some(msgspec.Struct, frozen=True):
    """Any of the parts; of none: false."""

    parts: tuple["Formula", ...]


Formula = Union[Within, Every, Some]  # noqa: UP007  (the classes name it before it exists)

TRUE = Every(())
FALSE = Some(())


def negated(formula: Formula, domains: Mapping[str, int]) -> Formula:
    """What holds exactly where the formula does not; `domains` are all values of each variable."""
    match formula:
        case Within(variable, values):
            return Within(variable, domains[variable] & ~values)
        case Every(parts):
            return Some(tuple(negated(part, domains) for part in parts))
        case Some(parts):
            return Every(tuple(negated(part, domains) for part in parts))


def can_hold(formulas: Iterable[Formula], domains: Mapping[str, int], effort: Effort | None = None) -> bool | None:
    """Whether some values meet all of the formulas; None: that would take too long to find out."""
    found = find(formulas, domains, effort)
    return found if found is None or found is False else True


def find(
    formulas: Iterable[Formula], domains: Mapping[str, int], effort: Effort | None = None
) -> Point | Literal[False] | None:
    """Values that meet all of the formulas (a variable that is not named may be anything); False: there are none.

    None: it would take too long to find out.
    """
    most = EFFORT if effort is None else min(EFFORT, effort.left)
    search = _Search(domains)
    states: list[tuple[dict[str, int], list[Formula]]] = [({}, list(formulas))]
    try:
        while states:
            narrowed, todo = states.pop()
            open_ = search.propagate(narrowed, todo)
            if search.effort > most:
                return None
            if open_ is None:
                continue
            if not open_:
                return narrowed
            choice = min(range(len(open_)), key=lambda index: len(open_[index].parts))
            rest = [*open_[:choice], *open_[choice + 1 :]]
            states.extend((dict(narrowed), [part, *rest]) for part in reversed(open_[choice].parts))
        return False
    finally:
        if effort is not None:
            effort.left -= search.effort


def holds_at(formula: Formula, point: Mapping[str, int]) -> bool:
    """Whether it holds where each variable has the one value that the point gives it, or its first one."""
    match formula:
        case Within(variable, values):
            return bool(point.get(variable, 1) & values)
        case Every(parts):
            return all(holds_at(part, point) for part in parts)
        case Some(parts):
            return any(holds_at(part, point) for part in parts)


class _Search:
    def __init__(self, domains: Mapping[str, int]) -> None:
        self._domains = domains
        self.effort = 0

    def propagate(self, narrowed: dict[str, int], todo: list[Formula]) -> list[Some] | None:
        """Narrow the variables by what must be; what is left to choose from, or None for a contradiction."""
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
        """The same as far as the variables are narrowed; TRUE and FALSE where that decides it."""
        self.effort += 1
        match formula:
            case Within(variable, values):
                now = narrowed.get(variable, self._domains[variable])
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
        for variable, some in values.items():
            if some == narrowed.get(variable, self._domains[variable]):
                return TRUE
            kept.append(Within(variable, some))
        return kept[0] if len(kept) == 1 else Some(tuple(kept))
