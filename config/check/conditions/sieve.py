"""Conditions one behind the other, as routes are: what comes through to one of them.

Thousands of routes must not be compared each with each. Two short cuts go before the search
of `config.check.conditions.formula`:
one request is tried by which the route is reached (values as they were in the last answer, but for what the route asks
for), and it is looked up, not searched, which of the earlier conditions hold for it; and the search is given only those
earlier conditions that the later one does not exclude by a single variable.
"""

from collections.abc import Iterator
from typing import Literal

from config.check.conditions.formula import (
    Effort,
    Every,
    Formula,
    Point,
    Some,
    Within,
    can_hold,
    find,
    holds_at,
    negated,
)

_FEW = 8
"""Values under each of which a condition is looked up; one that asks for any of more is compared."""
_MANY = 64
"""Conditions that are left out one by one to see which are needed."""

_Trigger = tuple[str, int]


class Sieve:
    """See the module. Positions are those in the order of `add`."""

    def __init__(self, domains: dict[str, int], effort: Effort) -> None:
        self._domains = domains
        self._effort = effort
        self._conditions: list[Formula] = []
        self._boxes: dict[str, dict[int, int]] = {}
        """By variable and the values that are asked for: the conditions, one bit each."""
        self._usual = _Usual({})

    def add(self, condition: Formula) -> None:
        """The next one: it takes what it holds for."""
        position = len(self._conditions)
        self._conditions.append(condition)
        self._usual.add(position, condition)
        for variable, values in box_of(condition, self._domains)[0].items():
            found = self._boxes.setdefault(variable, {})
            found[values] = found.get(values, 0) | 1 << position

    def left_for(self, condition: Formula) -> Point | Literal[False] | None:
        """Values for which it holds and none of those before does; False: there are none. None: that took too long."""
        alone = find([condition], self._domains, self._effort)
        if alone is None or alone is False:
            return alone
        taker = self._taker(alone)
        if taker is None:
            return self._usual.at(alone)
        if self.takes_all(taker, condition):
            return False
        others = [negated(self._conditions[each], self._domains) for each in self.beside(condition)]
        found = find([condition, *others], self._domains, self._effort)
        if found:
            self._usual = _Usual(self._usual.at(found))
            for position, each in enumerate(self._conditions):
                self._usual.add(position, each)
        return found

    def first_taker(self, condition: Formula) -> int | None:
        """One condition before it that takes all of its requests; None: no single one does."""
        for position in self.beside(condition):
            if self.takes_all(position, condition):
                return position
        return None

    def takes_all(self, position: int, condition: Formula) -> bool:
        """Whether the condition there holds wherever this one does."""
        missed = negated(self._conditions[position], self._domains)
        return can_hold([condition, missed], self._domains, self._effort) is False

    def never(self, condition: Formula) -> bool:
        """Whether it holds for nothing, whatever comes before it."""
        return can_hold([condition], self._domains, self._effort) is False

    def takes_everything(self, position: int) -> bool:
        """Whether the condition there always holds."""
        return can_hold([negated(self._conditions[position], self._domains)], self._domains, self._effort) is False

    def can_meet(self, condition: Formula) -> bool:
        """Whether one of them may hold where it does."""
        return any(
            can_hold([condition, self._conditions[each]], self._domains, self._effort) is not False
            for each in self.beside(condition)
        )

    def beside(self, condition: Formula) -> list[int]:
        """Positions of those that may hold where it does."""
        left = (1 << len(self._conditions)) - 1
        for variable, values in box_of(condition, self._domains)[0].items():
            for others, positions in self._boxes.get(variable, {}).items():
                if not others & values:
                    left &= ~positions
        return [position for position, bit in enumerate(reversed(f"{left:b}")) if bit == "1"] if left else []

    def needed(self, condition: Formula) -> list[int]:
        """Positions that together take all of its requests, as few as leaving out one by one finds; of many, all."""
        kept = {each: negated(self._conditions[each], self._domains) for each in self.beside(condition)}
        for each in list(kept) if len(kept) <= _MANY else ():
            fewer = [other for position, other in kept.items() if position != each]
            if can_hold([condition, *fewer], self._domains, self._effort) is False:
                del kept[each]
        return list(kept)

    def _taker(self, point: Point) -> int | None:
        """The first condition that holds at the usual values, but for those of the point."""
        values = self._usual.at(point)
        candidates = self._usual.candidates(values, point)
        return next((each for each in candidates if holds_at(self._conditions[each], values)), None)


class _Usual:
    """A request, one value each variable, and what of it would have to change for a condition to hold."""

    def __init__(self, values: dict[str, int]) -> None:
        self.values = values
        self._holding: list[int] = []
        self._by_value: dict[_Trigger, list[int]] = {}
        self._by_values: dict[str, list[tuple[int, int]]] = {}

    def add(self, position: int, condition: Formula) -> None:
        triggers = _triggers(condition, self.values)
        if triggers is None:
            self._holding.append(position)
            return
        for variable, values in triggers:
            if values.bit_count() > _FEW:
                self._by_values.setdefault(variable, []).append((values, position))
                continue
            for value in _each(values):
                self._by_value.setdefault((variable, value), []).append(position)

    def at(self, point: Point) -> dict[str, int]:
        """The usual values as far as the point leaves them, else the first one that it leaves."""
        changed = {}
        for variable, values in point.items():
            usual = self.values.get(variable, 1)
            changed[variable] = usual if usual & values else values & -values
        return self.values | changed

    def candidates(self, values: dict[str, int], point: Point) -> Iterator[int]:
        """Those that may hold there, in no order but that of the conditions within each variable."""
        yield from self._holding
        for variable in point:
            value = values[variable]
            if value != self.values.get(variable, 1):
                yield from self._by_value.get((variable, value), ())
                yield from (position for mask, position in self._by_values.get(variable, ()) if mask & value)


def _each(values: int) -> Iterator[int]:
    """Every value by itself."""
    while values:
        first = values & -values
        yield first
        values ^= first


def box_of(condition: Formula, domains: dict[str, int]) -> tuple[dict[str, int], bool]:
    """What it certainly asks of single variables, and whether that is all that it asks."""
    found: dict[str, int] = {}
    parts: list[Formula] = [condition]
    is_whole = True
    while parts:
        match parts.pop():
            case Within(variable, values):
                found[variable] = found.get(variable, domains[variable]) & values
            case Every(inner):
                parts += inner
            case Some((only,)):
                parts.append(only)
            case Some():
                is_whole = False
    return found, is_whole


def _triggers(condition: Formula, usual: dict[str, int]) -> list[_Trigger] | None:
    """Of these changes at least one is needed for it to hold; None: it holds as it is."""
    match condition:
        case Within(variable, values):
            return None if usual.get(variable, 1) & values else [(variable, values)]
        case Every(parts):
            missing = [found for part in parts if (found := _triggers(part, usual)) is not None]
            return min(missing, key=_looseness) if missing else None
        case Some(parts):
            every = [_triggers(part, usual) for part in parts]
            return None if None in every else [each for found in every for each in found or ()]


def _looseness(triggers: list[_Trigger]) -> int:
    return sum(values.bit_count() for _, values in triggers)
