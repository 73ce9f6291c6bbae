"""Compares two policies: their settings, and their decisions on synthetic or recorded requests.

Of decisions it counts what changes to what, how often, with an example.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import msgspec

from config.model.expectations import GivenRequest
from policies.authoring.decision import Decider, Decision, DecisionOutcome, DecisionRefusal
from policies.authoring.settings_diff import SettingChange, settings_diff
from policies.authoring.situation import Situation, situation_of
from policies.authoring.synthetic import synthetic_requests
from policies.cascade.statistic import falls, statistic_of
from policies.model.features import Features
from policies.model.plan import Plan
from policies.records.trace import TraceRequest, trace_features

_REFUSED = "refused"
_MOST_TAGS = 3
"""So many are named in a label."""
_EVERY = 1000
"""Requests between two reports of progress."""


class Compared(msgspec.Struct, frozen=True):
    """One request under both policies."""

    label: str
    before: Decision
    after: Decision
    margins: tuple[float, ...] = ()
    """Recorded margins of the small model's answer; empty: unknown."""
    whole: bool = False
    """The margins cover the complete answer. False: it escalated before its end."""


class Shift(msgspec.Struct, frozen=True):
    """The requests whose value of an aspect changes from `before` to `after`."""

    before: str
    after: str
    count: int
    share: float
    example: str


class Aspect(msgspec.Struct, frozen=True):
    """One property of decisions and its changes."""

    name: str
    """"route", "first rung", "cascade", "arm", "all rungs", "escalates"."""
    changed: int
    share: float
    """`changed` as a share of all requests."""
    shifts: tuple[Shift, ...]
    """Most frequent first."""


class DecisionDiff(msgspec.Struct, frozen=True):
    """The result of a comparison."""

    requests: int
    changed: int
    """Requests with another route, arm, rung, order of rungs, emit mode or refusal."""
    share: float
    terms_only: int
    """Requests with the same outcome but other terms: threshold, deadlines, caps, retries or `midstream`."""
    aspects: tuple[Aspect, ...]


def decision_diff(requests: Iterable[Compared]) -> DecisionDiff:
    """Count the changes over all requests."""
    total = changed = terms_only = 0
    by_aspect: dict[str, dict[tuple[str, str], tuple[int, str]]] = {}
    for request in requests:
        total += 1
        before, after = DecisionOutcome.of(request.before), DecisionOutcome.of(request.after)
        if before != after:
            changed += 1
        elif _terms(request.before) != _terms(request.after):
            terms_only += 1
        for name, was, now in _aspects(request, before, after):
            if was != now:
                shifts = by_aspect.setdefault(name, {})
                count, example = shifts.get((was, now), (0, request.label))
                # The request with the shortest label has the fewest special features: it shows the cause best.
                shifts[was, now] = (count + 1, min(example, request.label, key=len))
    return DecisionDiff(
        requests=total,
        changed=changed,
        share=_share(changed, total),
        terms_only=terms_only,
        aspects=tuple(_aspect(name, shifts, total) for name, shifts in by_aspect.items()),
    )


def _aspect(name: str, shifts: dict[tuple[str, str], tuple[int, str]], total: int) -> Aspect:
    rows = [Shift(was, now, count, _share(count, total), example) for (was, now), (count, example) in shifts.items()]
    rows.sort(key=lambda shift: (-shift.count, shift.before, shift.after))
    changed = sum(shift.count for shift in rows)
    return Aspect(name, changed, _share(changed, total), tuple(rows))


def _share(count: int, total: int) -> float:
    return round(count / total, 6) if total else 0.0


def _aspects(request: Compared, before: DecisionOutcome, after: DecisionOutcome) -> Iterator[tuple[str, str, str]]:
    yield "route", _route(before), _route(after)
    yield "first rung", before.starts_on or _REFUSED, after.starts_on or _REFUSED
    if not before.refused and not after.refused:
        yield "cascade", _cascade(before), _cascade(after)
        yield "arm", before.arm or "none", after.arm or "none"
        yield "all rungs", ", ".join(before.rungs), ", ".join(after.rungs)
    if request.margins:
        yield "escalates", _escalates(request, request.before), _escalates(request, request.after)


def _route(outcome: DecisionOutcome) -> str:
    return f"refused: {outcome.refused}" if outcome.refused else outcome.route


def _cascade(outcome: DecisionOutcome) -> str:
    if outcome.may_escalate is None:
        return "no cascade"
    rule = "may escalate" if outcome.may_escalate else "stays there"
    return f"{outcome.cascade} on {outcome.starts_on}, {rule}, {outcome.mode}"


def _escalates(request: Compared, decision: Decision) -> str:
    """Whether the recorded answer of the small model escalates under this decision's threshold."""
    if isinstance(decision, DecisionRefusal) or decision.cascade is None:
        return "no cascade"
    cascade = decision.cascade
    if cascade.start_on != "small" or not cascade.may_escalate or cascade.mode == "verified":
        return "not asked"
    # As in `policies.cascade.cascade`: NaN is unsure, and with an infinite threshold every answer escalates.
    unsure = not statistic_of(cascade.statistic, request.margins) >= cascade.threshold or cascade.threshold == math.inf
    if not request.whole and not (unsure and falls(cascade.statistic)):
        return "unknown"
    return "yes" if unsure else "no"


def _terms(decision: Decision) -> Decision:
    if not isinstance(decision, Plan):
        return decision
    return msgspec.structs.replace(decision, policy="", reasons=(), ladder="", experiment="")


def label_of(features: Features) -> str:
    """A short description of a request: the features that are not at their defaults."""
    parts = [features.model, features.tenant]
    tags = sorted(features.tags)
    parts += tags[:_MOST_TAGS]
    parts += [f"{len(tags) - _MOST_TAGS} more tags"] if len(tags) > _MOST_TAGS else []
    parts += [f"has {name}" for name in sorted(features.has)]
    parts += [f"{name}={value}" for name, value in sorted(features.headers.items())]
    parts.append(f"{features.prompt_tokens} tokens")
    parts += [f"turn {features.turn}"] if features.turn > 1 else []
    parts += [f"complexity {features.complexity:.3g}"] if features.complexity else []
    parts += [f"budget {features.budget_used:.3g}"] if features.budget_used else []
    return ", ".join(parts)


class PolicySide(msgspec.Struct, frozen=True):
    """One of the two policies."""

    policy: str
    """Its digest."""
    routes: int


class PolicyDiff(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a comparison. Its keys are stable; new ones may be added."""

    schema: int = 1
    before: PolicySide
    after: PolicySide
    decides_the_same: bool
    """The digests are equal."""
    settings: tuple[SettingChange, ...]
    words: tuple[str, ...]
    """`settings` as readable sentences."""
    synthetic: DecisionDiff
    """Over synthetic requests near the boundaries of both policies; shares are not representative of real traffic."""
    trace: DecisionDiff | None
    notes: tuple[str, ...] = ()


def policy_diff(
    before: Decider,
    after: Decider,
    *,
    samples: int,
    seed: int,
    trace: Iterable[TraceRequest] | None = None,
    notes: tuple[str, ...] = (),
    progress: Callable[[int], None] = lambda _decided: None,
) -> PolicyDiff:
    """Compare two policies on `samples` synthetic requests, and on a trace if there is one.

    `progress` gets the number of synthetic requests that were decided, from time to time.

    Raises BadTrace if the trace has tenants, tiers or models that `before` does not have.
    """
    changes = settings_diff(before.settings, after.settings)
    return PolicyDiff(
        before=PolicySide(before.policy.digest, len(before.policy.routes)),
        after=PolicySide(after.policy.digest, len(after.policy.routes)),
        decides_the_same=before.policy.digest == after.policy.digest,
        settings=changes,
        words=tuple(map(str, changes)),
        synthetic=decision_diff(_synthetic(before, after, samples, seed, progress)),
        trace=None if trace is None else decision_diff(_recorded(before, after, trace)),
        notes=notes,
    )


def _synthetic(
    before: Decider, after: Decider, samples: int, seed: int, progress: Callable[[int], None]
) -> Iterator[Compared]:
    for number, given in enumerate(synthetic_requests((before.settings, after.settings), samples, seed)):
        if number % _EVERY == 0:
            progress(number)
        old = situation_of(given, before.settings)
        new = situation_of(given, after.settings)
        yield Compared(_label(old), before.decide(old), after.decide(new))


def _label(situation: Situation) -> str:
    """The label of the request, with the load values that are not at their defaults."""
    load = situation.load
    parts = [label_of(situation.features)]
    for name, engine in load.engines.items():
        parts += [] if engine.healthy else [f"{name} is down"]
        parts += [f"{name} waits {engine.expected_wait_s:.3g} s"] if engine.expected_wait_s else []
        parts += [f"{name} kv {engine.kv_usage:.3g}"] if engine.kv_usage else []
    parts += [f"breaker of {name} {view.state}" for name, view in load.breakers.items() if view.state != "closed"]
    return ", ".join(parts)


def _recorded(before: Decider, after: Decider, trace: Iterable[TraceRequest]) -> Iterator[Compared]:
    """A trace contains no load, so the engines are taken to be idle."""
    idle_before = situation_of(GivenRequest(), before.settings).load
    idle_after = situation_of(GivenRequest(), after.settings).load
    for number, request in enumerate(trace):
        features = trace_features(request, before.settings, number)
        was = before.decide(Situation(features, idle_before))
        label = f"request {number + 1}: {label_of(features)}"
        # Under the other policy the tenant may have another tier.
        tenant = after.tenants.get(features.tenant)
        if not request.tier and tenant is not None:
            features = msgspec.structs.replace(features, tier=tenant.tier)
        # Of a small stage that answered, the margins cover the complete answer.
        whole = any(cascade.stages[0] == request.rung for cascade in before.settings.cascades.values())
        now = after.decide(Situation(features, idle_after))
        yield Compared(label, was, now, margins=request.margins, whole=whole)
