"""Collects the values that a policy's conditions compare with: its decisions can change only there."""

from collections import defaultdict

import msgspec

from config.model.conditions import NUMBERS, LoadCondition, TimeCondition
from config.model.settings import Settings
from config.model.table import Range
from policies.routing.policy import conditions_in

WORDS = ("model", "tenant", "tier", "path", "language", "tag", "has")
"""Fields of conditions that are compared with names."""


class Boundaries(msgspec.Struct, frozen=True):
    """The policy decides alike for all numbers between two adjacent bounds, and for all names that are not listed."""

    numbers: dict[str, tuple[float, ...]]
    """By field."""
    words: dict[str, tuple[str, ...]]
    """By field, in file order."""
    headers: dict[str, tuple[str, ...]]
    """By name in lower case."""
    waits_over_slo: dict[str, tuple[float, ...]]
    """By rung."""
    kv_usages: dict[str, tuple[float, ...]]
    """By rung."""
    breakers: tuple[str, ...]
    """Rungs whose breaker state a condition or a cascade depends on."""
    stages: tuple[str, ...]
    """Stages of cascades: the stage on which an answer starts depends on whether they can serve."""
    times: tuple[TimeCondition, ...]

    @classmethod
    def of(cls, settings: Settings) -> "Boundaries":
        """The boundaries of checked settings, with the conditions that experiments set."""
        conditions = list(conditions_in(settings))
        headers: defaultdict[str, dict[str, None]] = defaultdict(dict)
        waits: defaultdict[str, set[float]] = defaultdict(set)
        usages: defaultdict[str, set[float]] = defaultdict(set)
        breakers: list[str] = []
        loads: list[tuple[LoadCondition | None, tuple[float, ...]]] = [(when.load, ()) for when in conditions]
        for cascade in settings.cascades.values():
            if (busy := cascade.when_busy) is not None:
                loads.append((settings.signals[busy.signal].load, (busy.release_at,)))
        for load, more in loads:
            if load is None:
                continue
            for bounds, by_rung in ((load.queue_wait_over_slo, waits), (load.kv_usage, usages)):
                if bounds is not None:
                    by_rung[load.of] |= {*_bounds(bounds), *more}
            breakers += [load.of] if load.breaker else []
        for when in conditions:
            for name, values in when.header.items():
                headers[name.lower()] |= dict.fromkeys(values)
        stages = tuple(dict.fromkeys(stage for cascade in settings.cascades.values() for stage in cascade.stages))
        return cls(
            numbers={
                field: tuple(sorted({bound for when in conditions for bound in _bounds(getattr(when, field))}))
                for field in NUMBERS
            },
            words={
                field: tuple(dict.fromkeys(word for when in conditions for word in getattr(when, field)))
                for field in WORDS
            },
            headers={name: tuple(values) for name, values in headers.items()},
            waits_over_slo={rung: tuple(sorted(bounds)) for rung, bounds in waits.items()},
            kv_usages={rung: tuple(sorted(bounds)) for rung, bounds in usages.items()},
            breakers=tuple(dict.fromkeys((*breakers, *stages))),
            stages=stages,
            times=tuple(dict.fromkeys(when.time for when in conditions if when.time is not None)),
        )


def _bounds(given: Range | None) -> set[float]:
    if given is None:
        return set()
    return {bound for bound in (given.at_least, given.below) if bound is not None}
