"""What is kept of one request's decision: enough to explain it, and to decide it again under another policy.

It holds no prompt, no answer and no key. A server keeps the last ones in memory and shows them to its administrators.
"""

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeVar

import msgspec

from policies.model.attempt_record import AttemptRecord
from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import Plan

_Value = TypeVar("_Value")


class TokenCounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """As they are charged."""

    prompt: int = 0
    cached: int = 0
    """Of the prompt, those that the prefix cache supplied."""
    completion: int = 0
    discarded: int = 0
    """Made, but never part of the answer: a small model's answer that was not trusted."""


class Timings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Seconds since the request's arrival; None: it did not come to that."""

    started: float | None = None
    """The first engine or upstream took it."""
    ttft: float | None = None
    """The client received its first content."""
    total: float | None = None
    """It ended, however."""


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One request, from its features to its end. Make it with `decision_record`."""

    schema: Literal[1] = 1
    request_id: str
    at: float
    """Its arrival, seconds since 1970."""
    policy: str
    """The digest of the policy that decided."""
    features: Features
    load: Load
    """At that moment; of all rungs that the policy knows, or of those that the plan names."""
    plan: Plan | None
    """Its deadlines count from the arrival. None: no plan was made, and `code` says why."""
    attempts: tuple[AttemptRecord, ...] = ()
    """Rungs that were tried, in order."""
    outcome: str = ""
    """How it ended: "ok", "refused", "failed", "gone" ...; "" while it runs."""
    code: str = ""
    """Of the refusal or the error, such as "no_route"."""
    rung: str = ""
    """Which rung answered; "static_answer" for a text of the ladder; "" if none did."""
    adapter: str = ""
    """Which adapter answered, as NAME@VERSION; "" if none did."""
    statistic: float | None = None
    """What the cascade's statistic was when it decided; None: it did not come to that."""
    degraded: tuple[str, ...] = ()
    """In which ways less was done than was asked for: see `policies.model.degraded`."""
    cost: float | None = None
    """Money, by [prices]; None: unknown."""
    tokens: TokenCounts = TokenCounts()
    timings: Timings = Timings()


def decision_record(
    *, request_id: str, arrived_at: float, policy: str, features: Features, load: Load, plan: Plan | None
) -> DecisionRecord:
    """A record of what was just decided; `arrived_at` is on the clock of the plan's deadlines.

    What comes later (`attempts`, `outcome` ...) goes in with `msgspec.structs.replace`.
    """
    return DecisionRecord(
        request_id=request_id,
        at=features.at,
        policy=policy,
        features=_plain_features(features),
        load=_plain_load(load),
        plan=None if plan is None else _since_arrival(plan, arrived_at),
    )


def encode_record(record: DecisionRecord) -> bytes:
    """JSON, on one line."""
    return msgspec.json.encode(record, order="deterministic")


def decode_record(line: bytes | str) -> DecisionRecord:
    """Raises msgspec.DecodeError, which says what is wrong and where."""
    return msgspec.json.decode(line, type=DecisionRecord)


def _plain_features(features: Features) -> Features:
    """With mappings that can be encoded."""
    return msgspec.structs.replace(features, headers=_dict(features.headers), priors=_dict(features.priors))


def _plain_load(load: Load) -> Load:
    return msgspec.structs.replace(
        load, engines=_dict(load.engines), breakers=_dict(load.breakers), thresholds=_finite(load.thresholds)
    )


def _since_arrival(plan: Plan, arrived_at: float) -> Plan:
    cascade = plan.cascade
    if cascade is not None:
        finite = _finite({"threshold": cascade.threshold} | ({} if cascade.level is None else {"level": cascade.level}))
        cascade = msgspec.structs.replace(cascade, **finite)
    return msgspec.structs.replace(
        plan, cascade=cascade, ttft_at=plan.ttft_at - arrived_at, total_at=plan.total_at - arrived_at
    )


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """JSON knows no infinity; the largest number decides the same."""
    largest = sys.float_info.max
    return {name: min(max(number, -largest), largest) for name, number in numbers.items()}


def _dict(mapping: Mapping[str, _Value]) -> Mapping[str, _Value]:
    return dict(mapping) if isinstance(mapping, MappingProxyType) else mapping
