"""Compares two policies: their settings, and their decisions on synthetic or recorded requests."""

from collections.abc import Iterable, Iterator

import msgspec

from config.model.expectations import GivenRequest
from policies.authoring.decision import Decider
from policies.authoring.decision_diff import Compared, DecisionDiff, decision_diff, label_of
from policies.authoring.settings_diff import SettingChange, settings_diff
from policies.authoring.situation import Situation, situation_of
from policies.authoring.synthetic import synthetic_requests
from policies.model.features import Features
from policies.records.trace import TraceRequest, trace_features


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
) -> PolicyDiff:
    """Compare two policies on `samples` synthetic requests, and on a trace if there is one.

    Raises BadTrace if the trace has tenants, tiers or models that `before` does not have.
    """
    changes = settings_diff(before.settings, after.settings)
    return PolicyDiff(
        before=PolicySide(before.policy.digest, len(before.policy.routes)),
        after=PolicySide(after.policy.digest, len(after.policy.routes)),
        decides_the_same=before.policy.digest == after.policy.digest,
        settings=changes,
        words=tuple(map(str, changes)),
        synthetic=decision_diff(_synthetic(before, after, samples, seed)),
        trace=None if trace is None else decision_diff(_recorded(before, after, trace)),
        notes=notes,
    )


def _synthetic(before: Decider, after: Decider, samples: int, seed: int) -> Iterator[Compared]:
    for given in synthetic_requests((before.settings, after.settings), samples, seed):
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
        old = Situation(features, idle_before)
        new = Situation(_under(after, features, request), idle_after)
        was = before.decide(old)
        yield Compared(
            f"request {number + 1}: {label_of(features)}",
            was,
            after.decide(new),
            margins=request.margins,
            whole=_accepted(before, request),
        )


def _under(decider: Decider, features: Features, request: TraceRequest) -> Features:
    """The request under the other policy, where its tenant may have another tier."""
    tenant = decider.tenants.get(features.tenant)
    if request.tier or tenant is None:
        return features
    return msgspec.structs.replace(features, tier=tenant.tier)


def _accepted(decider: Decider, request: TraceRequest) -> bool:
    """Whether the small stage of a cascade answered: the margins then cover the complete answer."""
    return any(cascade.stages[0] == request.rung for cascade in decider.settings.cascades.values())
