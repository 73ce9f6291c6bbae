"""Enumerates the single changes of a situation that can change a policy's decision: one feature or load value each.

Ranges of numbers are divided into spans at the values that conditions compare with. The decision is the same within a
span, so that one value of it is sufficient.
"""

import datetime as dt
import itertools
import math
import zoneinfo
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal

import msgspec

from config.model.conditions import INTEGERS, NUMBERS, TimeCondition
from config.model.tenancy import TierSettings
from policies.authoring.boundaries import Boundaries
from policies.authoring.decision import Decider, DecisionOutcome
from policies.authoring.situation import Situation
from policies.model.load import BreakerState, BreakerView, EngineLoad, Load
from policies.routing.conditions import measure_of

_MINIMUM = {"turn": 1.0}
_MAXIMUM = {"complexity": 1.0, "code": 1.0}
_SIZES = frozenset({"prompt_tokens", "max_tokens"})
_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/stream")
_STATES: tuple[BreakerState, ...] = ("closed", "open", "half_open")
_Measured = Literal["expected_wait_s", "kv_usage"]
_LARGEST = 2**31
"""No longer prompt or answer is looked at."""
_LOOK_AHEAD_DAYS = 8
"""The rest of today and a week, after which times of day repeat."""


class Span(msgspec.Struct, frozen=True):
    """Numbers from `low` up to, but not including, `high`; None: unbounded."""

    low: float | None
    high: float | None

    def holds(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value < self.high)


class SituationChange(msgspec.Struct, frozen=True):
    """One change of the situation."""

    word: str
    """What is changed: "prompt_tokens", "tags", "queue_wait_over_slo of large" ..."""
    wanted: str
    """The change: ">= 4000", "is acme", "include vip"."""
    now: str
    distance: float
    """Size of the change, roughly 0..1; a rough measure for changes of different things."""
    situation: Situation
    span: Span | None = None
    """For a number: all values in it are the same change."""
    value: Any = None
    """The value in `situation`."""

    @property
    def text(self) -> str:
        return f"{self.word} {self.wanted}"


class Axis(msgspec.Struct, frozen=True):
    """The changes of one feature or load value. Those of a number are its spans in order, without its current one."""

    changes: tuple[SituationChange, ...]
    here: int | None = None
    """For a number: how many of the changes are below its current value."""
    wanted: Callable[[Span], str] | None = None
    """For a number: formats a span."""

    def joined(self, lower: SituationChange, upper: SituationChange) -> SituationChange:
        assert lower.span is not None
        assert upper.span is not None
        assert self.wanted is not None
        nearer = lower if lower.distance <= upper.distance else upper
        span = Span(lower.span.low, upper.span.high)
        return msgspec.structs.replace(nearer, span=span, wanted=self.wanted(span))


def axes(decider: Decider, boundaries: Boundaries, base: Situation) -> Iterator[Axis]:
    """All single changes of `base` that can change a decision."""
    features = base.features
    yield from _feature_numbers(decider, boundaries, base)
    yield from _names(decider, boundaries, base)
    yield _members("tags", ("include", "leave out"), features.tags, boundaries.words["tag"], base)
    yield _members("has", ("", "no"), features.has, boundaries.words["has"], base)
    for name, values in boundaries.headers.items():
        yield _header(name, values, base)
    if boundaries.times:
        yield _time(boundaries.times, base)
    yield from _load_numbers(decider, boundaries, base)
    yield from _load_states(decider, boundaries, base)


def _with_load(base: Situation, **load: Any) -> Situation:
    return msgspec.structs.replace(base, load=msgspec.structs.replace(base.load, **load))


def _feature_numbers(decider: Decider, boundaries: Boundaries, base: Situation) -> Iterator[Axis]:
    for field in NUMBERS:
        bounds = set(boundaries.numbers[field])
        tenant = decider.tenants.get(base.features.tenant)
        if field == "budget_used" and tenant is not None and tenant.budget is not None:
            bounds.update(_outcome_cuts(decider, field, base, {0.0, 1.0, *bounds}))
            if base.features.budget_used >= 1:
                bounds.add(1.0)
        if field in _SIZES:
            edges = {float(math.ceil(bound)) for bound in bounds} | {0.0, 1.0, float(_LARGEST)}
            bounds.update(_outcome_cuts(decider, field, base, edges))
        if bounds:
            yield _number(
                field,
                getattr(base.features, field),
                bounds,
                _setter(field, base),
                minimum=_MINIMUM.get(field, 0.0),
                maximum=_MAXIMUM.get(field),
                integer=field in INTEGERS,
            )
    if base.features.budget_spent and base.features.budget_used < 1:
        fits = base.changed(budget_spent=False)
        yield Axis((SituationChange("budget", "has room for the request", "does not fit", 0.5, fits),))


def _outcome_cuts(decider: Decider, field: str, base: Situation, edges: set[float]) -> Iterator[float]:
    """The first values of other outcomes than those just below, between the edges; the highest edge is looked at.

    For what is refused or emitted otherwise for its length or its cost, though no condition looks at it. Found by
    bisection: of several changes between two neighbouring edges, those that cancel out may be missed.
    """
    setter, anywhere, whole, ends = _setter(field, base), Span(None, None), field in INTEGERS, sorted(edges)

    def outcome_at(value: float) -> DecisionOutcome:
        return DecisionOutcome.of(decider.decide(setter(value, anywhere)))

    spans = [(low, _below(high, integer=whole)) for low, high in itertools.pairwise(ends)]
    spans += [(_below(edge, integer=whole), edge) for edge in ends[1:-1]]
    while spans:
        low, high = spans.pop()
        if low >= high or outcome_at(low) == outcome_at(high):
            continue
        middle = (low + high) // 2 if whole else (low + high) / 2
        if low < middle < high:
            spans += [(low, middle), (middle, high)]
        else:
            yield high


def _below(value: float, *, integer: bool) -> float:
    return value - 1 if integer else math.nextafter(value, -math.inf)


def _setter(field: str, base: Situation) -> Callable[[float, Span], Situation]:
    def situation(value: float, span: Span) -> Situation:
        if field == "budget_used":
            return base.changed(budget_used=value, budget_spent=value >= 1)
        return base.changed(**{field: int(value) if field in INTEGERS else value})

    return situation


def _number(
    word: str,
    now: float,
    bounds: Iterable[float],
    situation: Callable[[float, Span], Situation],
    *,
    minimum: float = 0.0,
    maximum: float | None = None,
    integer: bool = False,
) -> Axis:
    """A change for every span that does not contain `now`, with the span's value closest to it."""
    cuts = sorted({float(math.ceil(bound)) if integer else bound for bound in bounds})
    cuts = [cut for cut in cuts if cut > minimum and (maximum is None or cut <= maximum)]
    edges: list[float | None] = [None, *cuts, None]
    changes: list[SituationChange] = []
    here = None
    for low, high in itertools.pairwise(edges):
        span = Span(low, high)
        if span.holds(now):
            here = len(changes)
            continue
        value = minimum if low is None else low
        if high is not None and now >= high:
            value = _below(high, integer=integer)
        changes.append(
            SituationChange(
                word=word,
                wanted=_bounds(span),
                now=f"{now:.6g}",
                distance=abs(value - now) / max(abs(value), abs(now)) if math.isfinite(now) else 1.0,
                situation=situation(value, span),
                span=span,
                value=int(value) if integer else value,
            )
        )
    return Axis(tuple(changes), here, _bounds)


def _bounds(span: Span) -> str:
    edges = ((">=", span.low), ("<", span.high))
    return " and ".join([f"{sign} {edge:.12g}" for sign, edge in edges if edge is not None])


def _names(decider: Decider, boundaries: Boundaries, base: Situation) -> Iterator[Axis]:
    """Changes of single-valued fields: to the names in conditions, and to one name that is in none."""
    features = base.features
    settings = decider.settings
    known: tuple[tuple[str, str, Iterable[str]], ...] = (
        ("model", features.model, settings.models),
        ("tenant", features.tenant, decider.tenants),
        ("tier", features.tier, settings.tiers),
        ("path", features.path, _PATHS),
        ("language", features.language, ("und",)),
    )
    for field, now, all_names in known:
        named = boundaries.words[field]
        if not named and field != "tier":
            continue
        unnamed = next((name for name in all_names if name not in named), None)
        others = dict.fromkeys([*named, *([] if unnamed is None else [unnamed])])
        changes = []
        for name in others:
            if name == now:
                continue
            wanted, situation = f"is {name}", base.changed(**{field: name})
            if field == "tenant":
                if name not in decider.tenants:
                    continue
                tier = decider.tenants[name].tier
                wanted, situation = f"is {name} (tier {tier})", base.changed(tenant=name, tier=tier)
            changes.append(SituationChange(field, wanted, now, 0.7, situation, value=name))
        yield Axis(tuple(changes))


def _members(
    field: str, verbs: tuple[str, str], present: frozenset[str], named: Iterable[str], base: Situation
) -> Axis:
    """Changes of a set by one member. `verbs`: the words for adding and for removing it."""
    now = ", ".join(sorted(present)) or "none"
    changes = []
    for name in named:
        wanted = f"{verbs[name in present]} {name}".strip()
        situation = base.changed(**{field: present ^ {name}})
        changes.append(SituationChange(field, wanted, now, 0.5, situation, value=name))
    return Axis(tuple(changes))


def _header(name: str, values: Iterable[str], base: Situation) -> Axis:
    headers = base.features.headers
    now = headers.get(name)
    shown = "missing" if now is None else now
    word = f"header {name}"
    changes = [
        SituationChange(word, f"is {value}", shown, 0.5, base.changed(headers={**headers, name: value}), value=value)
        for value in values
        if value != now
    ]
    if now is not None:
        others = {other: value for other, value in headers.items() if other != name}
        changes.append(SituationChange(word, "is missing", shown, 0.5, base.changed(headers=others)))
    return Axis(tuple(changes))


def _time(conditions: Iterable[TimeCondition], base: Situation) -> Axis:
    now = base.features.at
    end = now + _LOOK_AHEAD_DAYS * 86_400
    cuts = {instant for condition in conditions for instant in _instants(condition, now) if now < instant < end}
    edges = [*sorted(cuts), end]
    changes = []
    for low, high in itertools.pairwise(edges):
        span = Span(low, high)
        distance = (low - now) / (end - now)
        changes.append(
            SituationChange("time", _instant_span(span), _utc(now), distance, base.changed(at=low), span, low)
        )
    return Axis(tuple(changes), 0, _instant_span)


def _instant_span(span: Span) -> str:
    assert span.low is not None
    assert span.high is not None
    return f"from {_utc(span.low)} to {_utc(span.high)}"


def _instants(condition: TimeCondition, now: float) -> Iterator[float]:
    """When local time in the condition's zone passes one of its times of day, or its UTC offset changes."""
    zone = zoneinfo.ZoneInfo(condition.zone)
    first = dt.datetime.fromtimestamp(now, zone).date() - dt.timedelta(days=1)
    for day in (first + dt.timedelta(days=number) for number in range(_LOOK_AHEAD_DAYS + 3)):
        midnight = dt.datetime(day.year, day.month, day.day, tzinfo=zone)
        for minute in {0, int(condition.from_), int(condition.to)}:
            local = midnight + dt.timedelta(minutes=minute)
            yield from (local.replace(fold=fold).timestamp() for fold in (0, 1))
        begin = midnight.timestamp()
        after = (midnight + dt.timedelta(days=1)).timestamp()
        if _offset(begin, zone) != _offset(after, zone):
            yield _clock_change(int(begin), int(after), zone)


def _clock_change(low: int, high: int, zone: zoneinfo.ZoneInfo) -> float:
    """The first second after `low` that has the UTC offset of `high`."""
    later = _offset(high, zone)
    while low < high:
        middle = (low + high) // 2
        if _offset(middle, zone) == later:
            high = middle
        else:
            low = middle + 1
    return float(low)


def _offset(at: float, zone: zoneinfo.ZoneInfo) -> dt.timedelta | None:
    return dt.datetime.fromtimestamp(at, zone).utcoffset()


def _utc(at: float) -> str:
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%a %Y-%m-%d %H:%MZ}"


def _load_numbers(decider: Decider, boundaries: Boundaries, base: Situation) -> Iterator[Axis]:
    """Changes of load values, for engines whose load is known: otherwise all of their values would change at once."""
    tier = decider.settings.tiers.get(_tier(decider, base), TierSettings())
    measures: tuple[tuple[str, dict[str, tuple[float, ...]], _Measured, float, float | None], ...] = (
        ("queue_wait_over_slo", boundaries.waits_over_slo, "expected_wait_s", float(tier.slo.ttft), None),
        ("kv_usage", boundaries.kv_usages, "kv_usage", 1.0, 1.0),
    )
    for word, rungs, field, unit, maximum in measures:
        for rung, bounds in rungs.items():
            engine = base.load.engines.get(rung)
            if engine is None or unit <= 0:
                continue
            situation = partial(_measured, decider, base, engine, field, unit)
            yield _number(f"{word} of {rung}", getattr(engine, field) / unit, bounds, situation, maximum=maximum)


def _tier(decider: Decider, base: Situation) -> str:
    """In which it is served, should a spent budget have changed it."""
    return decider.plan(base).features.tier


def _measured(  # noqa: PLR0917  (`partial` gives all but the last two)
    decider: Decider, base: Situation, engine: EngineLoad, field: _Measured, unit: float, value: float, span: Span
) -> Situation:
    """The situation with another load value of one engine, `value` units, and with the cascades that are then busy."""
    measured = value * unit
    # Adjusted for rounding: divided by the unit it must be in the span again.
    while span.low is not None and measured / unit < span.low:
        measured = math.nextafter(measured, math.inf)
    while span.high is not None and measured / unit >= span.high:
        measured = math.nextafter(measured, 0.0)
    engines = {**base.load.engines, engine.name: msgspec.structs.replace(engine, **{field: measured})}
    load = msgspec.structs.replace(base.load, engines=engines)
    busy = _busy_after(decider, base, engine.name, field, load)
    return msgspec.structs.replace(base, load=msgspec.structs.replace(load, busy=busy))


def _busy_after(
    decider: Decider, base: Situation, rung: str, field: _Measured, load: Load
) -> frozenset[tuple[str, str]]:
    """Cascades that depend on this value become busy at their signal's bound, and stop below `release_at`."""
    busy = set(base.load.busy)
    settings = decider.settings
    tier = _tier(decider, base)
    features = msgspec.structs.replace(base.features, tier=tier)
    slo_ttft_s = {name: float(tier_settings.slo.ttft) for name, tier_settings in settings.tiers.items()}
    for name, cascade in settings.cascades.items():
        condition = None if cascade.when_busy is None else settings.signals[cascade.when_busy.signal].load
        if cascade.when_busy is None or condition is None or condition.of != rung:
            continue
        bounds = condition.queue_wait_over_slo if field == "expected_wait_s" else condition.kv_usage
        if bounds is None or bounds.at_least is None:
            continue
        value = measure_of(condition, slo_ttft_s)(features, load) or 0.0
        if value >= bounds.at_least:
            busy.add((name, tier))
        elif value < cascade.when_busy.release_at:
            busy.discard((name, tier))
    return frozenset(busy)


def _load_states(decider: Decider, boundaries: Boundaries, base: Situation) -> Iterator[Axis]:
    load = base.load
    for rung in boundaries.breakers:
        view = load.breakers.get(rung)
        now: BreakerState = "closed" if view is None else view.state
        changed = {
            state: _with_load(base, breakers={**load.breakers, rung: BreakerView(state, 0)})
            for state in _STATES
            if state != now
        }
        word = f"breaker of {rung}"
        yield Axis(tuple(SituationChange(word, f"is {it}", now, 0.8, then, value=it) for it, then in changed.items()))
    for rung in boundaries.stages:
        engine = load.engines.get(rung)
        if engine is None:
            continue
        other = msgspec.structs.replace(engine, healthy=not engine.healthy)
        wanted, shown = ("is down", "up") if engine.healthy else ("is up", "down")
        then = _with_load(base, engines={**load.engines, rung: other})
        yield Axis((SituationChange(rung, wanted, shown, 0.8, then, value=wanted),))
    for name, tier in sorted(load.busy):
        if tier == _tier(decider, base):
            then = _with_load(base, busy=load.busy - {(name, tier)})
            yield Axis((SituationChange(f"cascade {name}", "is no longer busy", "busy", 0.8, then),))
    for experiment in decider.settings.experiments:
        off = experiment.name in load.rolled_back
        wanted, shown = ("runs again", "rolled back") if off else ("is rolled back", "running")
        then = _with_load(base, rolled_back=load.rolled_back ^ {experiment.name})
        yield Axis((SituationChange(f"experiment {experiment.name}", wanted, shown, 0.9, then),))
