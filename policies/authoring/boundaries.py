"""Collects the values that a policy's conditions compare with: its decisions can change only there."""

from collections import defaultdict

import msgspec

from config.model.conditions import LoadCondition, SignalSettings, TimeCondition
from config.model.settings import Settings
from config.model.table import Range
from policies.routing.policy import conditions_in

NUMBERS = ("prompt_tokens", "max_tokens", "turn", "complexity", "code", "budget_used")
"""Numeric fields of conditions. The features have the same names."""
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
        collector = _Collector()
        for when in conditions_in(settings):
            collector.add(when)
        for cascade in settings.cascades.values():
            if cascade.when_busy is not None:
                collector.add_load(settings.signals[cascade.when_busy.signal].load, cascade.when_busy.release_at)
        stages = tuple(dict.fromkeys(stage for cascade in settings.cascades.values() for stage in cascade.stages))
        return cls(
            numbers={field: tuple(sorted(collector.numbers[field])) for field in NUMBERS},
            words={field: tuple(collector.words[field]) for field in WORDS},
            headers={name: tuple(values) for name, values in collector.headers.items()},
            waits_over_slo={rung: tuple(sorted(bounds)) for rung, bounds in collector.waits.items()},
            kv_usages={rung: tuple(sorted(bounds)) for rung, bounds in collector.kv.items()},
            breakers=tuple(dict.fromkeys((*collector.breakers, *stages))),
            stages=stages,
            times=tuple(collector.times),
        )


class _Collector:
    def __init__(self) -> None:
        self.numbers: defaultdict[str, set[float]] = defaultdict(set)
        self.words: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.headers: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.waits: defaultdict[str, set[float]] = defaultdict(set)
        self.kv: defaultdict[str, set[float]] = defaultdict(set)
        self.breakers: dict[str, None] = {}
        self.times: list[TimeCondition] = []

    def add(self, when: SignalSettings) -> None:
        for field in NUMBERS:
            self.numbers[field] |= _bounds(getattr(when, field))
        for field in WORDS:
            self.words[field] |= dict.fromkeys(getattr(when, field))
        for name, values in when.header.items():
            self.headers[name.lower()] |= dict.fromkeys(values)
        if when.time is not None and when.time not in self.times:
            self.times.append(when.time)
        self.add_load(when.load)

    def add_load(self, load: LoadCondition | None, *more: float) -> None:
        if load is None:
            return
        for bounds, target in ((load.queue_wait_over_slo, self.waits), (load.kv_usage, self.kv)):
            if bounds is not None:
                target[load.of] |= {*_bounds(bounds), *more}
        if load.breaker:
            self.breakers[load.of] = None


def _bounds(given: Range | None) -> set[float]:
    if given is None:
        return set()
    return {bound for bound in (given.at_least, given.below) if bound is not None}
