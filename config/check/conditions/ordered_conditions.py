"""Finds which of an ordered list of conditions are reached, if the first that holds takes a request, as for routes.

Comparing all pairs is too slow for thousands of routes. Two shortcuts avoid most searches of
`config.check.conditions.formula`:

- A sample request for the later condition is made from the last result, changed only where the condition requires it.
  If an index of the earlier conditions shows that none of them holds for it, the condition is reached.
- Otherwise a search is given only the earlier conditions that overlap with the later one in every single variable.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from config.check.conditions.formula import Effort, Every, Formula, Point, Some, Within, find, holds_at, negated

_MAX_INDEXED_VALUES = 8
"""A condition is indexed by value if it requires one of at most this many values of a variable."""
_MAX_MINIMISED = 64
"""Up to this many conditions, those that are not needed are found by leaving out one at a time."""

_Trigger = tuple[str, int]
"""(variable, values as bits): a change of a variable to one of these values."""


class OrderedConditions(msgspec.Struct, eq=False):
    """The conditions so far. Positions are those in the order of `add`."""

    _domains: dict[str, int]
    _effort: Effort
    _conditions: list[Formula] = []
    _boxes: dict[str, dict[int, int]] = {}
    """By variable and required values: positions of the conditions, as bits."""
    _sample: "_Sample" = msgspec.field(default_factory=lambda: _Sample({}))

    def add(self, condition: Formula) -> None:
        position = len(self._conditions)
        self._conditions.append(condition)
        self._sample.add(position, condition)
        for variable, values in box_of(condition, self._domains)[0].items():
            positions = self._boxes.setdefault(variable, {})
            positions[values] = positions.get(values, 0) | 1 << position

    def left_for(self, condition: Formula) -> Point | Literal[False] | None:
        """Values for which the condition holds and no earlier one does; False: there are none.

        None if the effort did not suffice.
        """
        alone = find([condition], self._domains, self._effort)
        if alone is None or alone is False:
            return alone
        values = self._sample.at(alone)
        candidates = self._sample.candidates(values, alone)
        taker = next((position for position in candidates if holds_at(self._conditions[position], values)), None)
        if taker is None:
            return values
        if self.takes_all(taker, condition):
            return False
        others = [negated(self._conditions[position], self._domains) for position in self.overlapping(condition)]
        point = find([condition, *others], self._domains, self._effort)
        if point:
            self._sample = _Sample(self._sample.at(point))
            for position, earlier in enumerate(self._conditions):
                self._sample.add(position, earlier)
        return point

    def first_taker(self, condition: Formula) -> int | None:
        """The first single condition that holds wherever this one does; None: there is none."""
        for position in self.overlapping(condition):
            if self.takes_all(position, condition):
                return position
        return None

    def takes_all(self, position: int, condition: Formula) -> bool:
        missed = negated(self._conditions[position], self._domains)
        return find([condition, missed], self._domains, self._effort) is False

    def never(self, condition: Formula) -> bool:
        return find([condition], self._domains, self._effort) is False

    def can_meet(self, condition: Formula) -> bool:
        return any(
            find([condition, self._conditions[position]], self._domains, self._effort) is not False
            for position in self.overlapping(condition)
        )

    def overlapping(self, condition: Formula) -> list[int]:
        """Positions of the conditions whose boxes overlap with this one's: only they can hold at the same time."""
        left = (1 << len(self._conditions)) - 1
        for variable, values in box_of(condition, self._domains)[0].items():
            for others, positions in self._boxes.get(variable, {}).items():
                if not others & values:
                    left &= ~positions
        return [position for position, bit in enumerate(reversed(f"{left:b}")) if bit == "1"] if left else []

    def needed(self, condition: Formula) -> list[int]:
        """Positions of conditions that together hold wherever this one does: a minimal set, unless there are many."""
        positions = self.overlapping(condition)
        kept = {position: negated(self._conditions[position], self._domains) for position in positions}
        for candidate in list(kept) if len(kept) <= _MAX_MINIMISED else ():
            fewer = [other for position, other in kept.items() if position != candidate]
            if find([condition, *fewer], self._domains, self._effort) is False:
                del kept[candidate]
        return list(kept)


class _Sample(msgspec.Struct, eq=False):
    """A request with one value of every variable, and an index of the changes of it by which conditions can hold."""

    values: dict[str, int]
    _holding: list[int] = []
    """Conditions that hold for the request without a change."""
    _by_value: dict[_Trigger, list[int]] = {}
    _by_values: dict[str, list[tuple[int, int]]] = {}
    """By variable: (values as bits, position), for conditions with more than `_MAX_INDEXED_VALUES` values."""

    def add(self, position: int, condition: Formula) -> None:
        triggers = _triggers(condition, self.values)
        if triggers is None:
            self._holding.append(position)
            return
        for variable, values in triggers:
            if values.bit_count() > _MAX_INDEXED_VALUES:
                self._by_values.setdefault(variable, []).append((values, position))
                continue
            for value in _bits(values):
                self._by_value.setdefault((variable, value), []).append(position)

    def at(self, point: Point) -> dict[str, int]:
        """The request changed to satisfy the point: where its value is not allowed, the first one that is."""
        changed = {}
        for variable, values in point.items():
            current = self.values.get(variable, 1)
            changed[variable] = current if current & values else values & -values
        return self.values | changed

    def candidates(self, values: dict[str, int], point: Point) -> Iterator[int]:
        """Positions of conditions that may hold at these values, which differ from the request only in the point."""
        yield from self._holding
        for variable in point:
            value = values[variable]
            if value != self.values.get(variable, 1):
                yield from self._by_value.get((variable, value), ())
                yield from (position for mask, position in self._by_values.get(variable, ()) if mask & value)


def _bits(values: int) -> Iterator[int]:
    while values:
        first = values & -values
        yield first
        values ^= first


def box_of(condition: Formula, domains: dict[str, int]) -> tuple[dict[str, int], bool]:
    """The box that contains the condition: by variable, its necessary values; and whether the condition is the box."""
    box: dict[str, int] = {}
    parts: list[Formula] = [condition]
    is_exact = True
    while parts:
        match parts.pop():
            case Within(variable, values):
                box[variable] = box.get(variable, domains[variable]) & values
            case Every(inner):
                parts += inner
            case Some((only,)):
                parts.append(only)
            case Some():
                is_exact = False
    return box, is_exact


def _triggers(condition: Formula, request: dict[str, int]) -> list[_Trigger] | None:
    """Changes of the request of which at least one is necessary for the condition to hold; None: it holds already."""
    match condition:
        case Within(variable, values):
            return None if request.get(variable, 1) & values else [(variable, values)]
        case Every(parts):
            missing = [triggers for part in parts if (triggers := _triggers(part, request)) is not None]
            return min(missing, key=lambda each: sum(values.bit_count() for _, values in each), default=None)
        case Some(parts):
            by_part = [_triggers(part, request) for part in parts]
            return None if None in by_part else [trigger for triggers in by_part for trigger in triggers or ()]
