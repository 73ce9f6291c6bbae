"""Generates synthetic requests on both sides of a policy's boundaries, to compare policies without a trace.

Features are chosen close to the values that conditions compare with; three of four requests are then changed so that
they match a random route. The same seed gives the same requests.
"""

import datetime as dt
import hashlib
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from config.model.conditions import INTEGERS, NUMBERS, SignalSettings, TimeCondition
from config.model.expectations import GivenLoad, GivenRequest
from config.model.settings import Settings
from config.model.table import Range, Seconds
from config.tenants import known_tenants
from policies.authoring.boundaries import Boundaries
from policies.authoring.situation import SOME_NOON

T = TypeVar("T")

_MAX_TENANTS = 64
_DAY_S = 86_400


class _Dice:
    """Deterministic choices: a hash of the seed, the request's number and the key of the choice."""

    def __init__(self, seed: int, number: int) -> None:
        self._prefix = f"{seed}:{number}:"

    def below(self, key: str, sides: int) -> int:
        digest = hashlib.blake2b(f"{self._prefix}{key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % sides

    def one_of(self, key: str, choices: Sequence[T]) -> T:
        return choices[self.below(key, len(choices))]


def synthetic_requests(policies: Sequence[Settings], count: int, seed: int) -> Iterator[GivenRequest]:
    """`count` requests, by the boundaries of all these policies."""
    worlds = [(settings, Boundaries.of(settings)) for settings in policies]
    for number in range(count):
        dice = _Dice(seed, number)
        settings, boundaries = dice.one_of("world", worlds)
        values = _by_boundaries(settings, boundaries, dice)
        route = dice.one_of("route", settings.routes)
        # One in four is not changed to match a route.
        if dice.below("aimed", 4):
            _aim(route.when, settings.signals, dice, values, "when")
        yield GivenRequest(**values)


def _by_boundaries(settings: Settings, boundaries: Boundaries, dice: _Dice) -> dict[str, Any]:
    tenants = list(known_tenants(settings))[:_MAX_TENANTS]
    values: dict[str, Any] = {
        "model": dice.one_of("model", list(settings.models)),
        "tenant": dice.one_of("tenant", list(dict.fromkeys([*tenants, *boundaries.words["tenant"]]))),
        "unit": dice.one_of("unit", ("", f"unit-{dice.below('unit name', 10_000)}")),
    }
    for field, bounds in boundaries.numbers.items():
        if bounds and dice.below(f"{field}?", 2):
            values[field] = _near(field, dice.one_of(field, bounds), dice)
    budget = settings.tenants.get(values["tenant"])
    if budget is not None and budget.budget is not None and not dice.below("spent", 8):
        values["budget_used"] = 1.0
    for field in ("tag", "has"):
        values[field] = tuple(name for name in boundaries.words[field] if not dice.below(f"{field} {name}", 4))
    for field in ("path", "language", "tier"):
        if boundaries.words[field] and not dice.below(f"{field}?", 4):
            values[field] = dice.one_of(field, boundaries.words[field])
    values["header"] = {
        name: dice.one_of(name, known) for name, known in boundaries.headers.items() if not dice.below(f"{name}?", 4)
    }
    if boundaries.times and dice.below("time?", 2):
        values["time"] = _time(dice.one_of("time", boundaries.times), dice)
    values["load"] = _load(settings, boundaries, dice, values["tenant"])
    return values


def _near(field: str, bound: float, dice: _Dice) -> float:
    """The bound itself, which counts as above it, or a value just below."""
    below = dice.below(f"{field} side", 2)
    if field in INTEGERS:
        return max(int(bound) - below, 0)
    return max(bound - below * 1e-6, 0.0)


def _time(condition: TimeCondition, dice: _Dice) -> str:
    zone = zoneinfo.ZoneInfo(condition.zone)
    day = dt.datetime.fromtimestamp(SOME_NOON + _DAY_S * dice.below("day", 7), zone)
    minute = int(dice.one_of("edge", (condition.from_, condition.to))) - dice.below("before", 2)
    local = day.replace(hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(minutes=minute)
    return local.isoformat()


def _load(settings: Settings, boundaries: Boundaries, dice: _Dice, tenant: str) -> dict[str, GivenLoad]:
    known = known_tenants(settings).get(tenant)
    tier = settings.tiers.get(known.tier) if known is not None else None
    slo_s = float(tier.slo.ttft) if tier is not None else 1.0
    load = {}
    for rung in dict.fromkeys((*boundaries.waits_over_slo, *boundaries.kv_usages, *boundaries.breakers)):
        values: dict[str, Any] = {}
        waits, usages = boundaries.waits_over_slo.get(rung), boundaries.kv_usages.get(rung)
        if waits and dice.below(f"wait? {rung}", 2):
            values["queue_wait"] = Seconds(_near(f"wait {rung}", dice.one_of(f"w {rung}", waits), dice) * slo_s)
        if usages and dice.below(f"kv? {rung}", 2):
            values["kv_usage"] = _near(f"kv {rung}", dice.one_of(f"k {rung}", usages), dice)
        if not dice.below(f"down {rung}", 12):
            values["healthy"] = False
        if not dice.below(f"breaker {rung}", 8):
            values["breaker"] = dice.one_of(f"state {rung}", ("open", "half_open"))
        if values:
            load[rung] = GivenLoad(**values)
    return load


def _aim(
    when: SignalSettings, signals: Mapping[str, SignalSettings], dice: _Dice, values: dict[str, Any], key: str
) -> None:
    """Change the values so that the condition holds, except for `not`, times and loads."""
    for field in ("model", "tenant", "tier", "path", "language"):
        if wanted := getattr(when, field):
            values[field] = dice.one_of(f"{key} {field}", wanted)
    for field in ("tag", "has"):
        if wanted := getattr(when, field):
            values[field] = tuple(dict.fromkeys((*values[field], dice.one_of(f"{key} {field}", wanted))))
    for name, wanted in when.header.items():
        values["header"] = {**values["header"], name.lower(): dice.one_of(f"{key} {name}", wanted)}
    for field in NUMBERS:
        bounds = getattr(when, field)
        if bounds is not None:
            values[field] = _inside(bounds, field in INTEGERS)
    for name in when.signal[:1]:
        _aim(signals[name], signals, dice, values, f"{key}/{name}")
    if when.any:
        number = dice.below(f"{key} any", len(when.any))
        _aim(when.any[number], signals, dice, values, f"{key}/any{number}")
    for number, member in enumerate(when.all):
        _aim(member, signals, dice, values, f"{key}/all{number}")


def _inside(bounds: Range, integer: bool) -> float:
    if bounds.at_least is not None:
        value = bounds.at_least
    else:
        below = bounds.below if bounds.below is not None else 1.0
        value = below - 1 if integer else below / 2
    return int(value) if integer else value
