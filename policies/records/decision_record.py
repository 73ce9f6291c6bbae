"""The record of one request's decision: enough to explain it, and to repeat it under another policy.

It contains no prompt, no answer and no key. The server keeps the most recent records in memory for the admin API.
"""

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeVar

import msgspec

from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import AttemptRecord, Plan

_Value = TypeVar("_Value")


class TokenCounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Billed tokens of a request."""

    prompt: int = 0
    cached: int = 0
    """Prompt tokens that the prefix cache supplied."""
    completion: int = 0
    discarded: int = 0
    """Generated, but not part of the answer: those of a small model whose answer escalated."""


class Timings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Seconds since the request's arrival; None if it did not happen."""

    started: float | None = None
    """The first backend started a job of the request."""
    ttft: float | None = None
    """The client received the first content."""
    total: float | None = None
    """The request ended, in any way."""


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One request from its features to its end. Created by `decision_record`."""

    schema: Literal[1] = 1
    request_id: str
    at: float
    """Arrival, seconds since 1970."""
    policy: str
    """The digest of the policy that decided."""
    features: Features
    load: Load
    """Load at the decision, of all rungs of the policy or of those in the plan."""
    plan: Plan | None
    """Its deadlines are relative to the arrival. None: no plan was made, for the reason in `code`."""
    attempts: tuple[AttemptRecord, ...] = ()
    outcome: str = ""
    """How the request ended: "ok", "refused", "failed", "gone" ...; "" while it runs."""
    code: str = ""
    """Code of the refusal or error, such as "no_route"."""
    rung: str = ""
    """The rung that answered; "static_answer" for a text of the ladder; "" if none did."""
    adapter: str = ""
    """The adapter that answered, as NAME@VERSION; "" if none."""
    statistic: float | None = None
    """The cascade's statistic at its decision; None without one."""
    degraded: tuple[str, ...] = ()
    """Codes of `policies.model.plan.Degraded`."""
    cost: float | None = None
    """Money by [prices]; None: unknown."""
    tokens: TokenCounts = TokenCounts()
    timings: Timings = Timings()


def decision_record(  # noqa: PLR0917  (all that the record begins with)
    request_id: str, arrived_at: float, policy: str, features: Features, load: Load, plan: Plan | None
) -> DecisionRecord:
    """The record of a new decision; `arrived_at` is on the clock of the plan's deadlines.

    `attempts`, `outcome` and the like are set later with `msgspec.structs.replace`.
    """
    replace = msgspec.structs.replace
    engines, breakers, thresholds = _dict(load.engines), _dict(load.breakers), _finite(load.thresholds)
    return DecisionRecord(
        request_id=request_id,
        at=features.at,
        policy=policy,
        # With plain dicts, which can be encoded.
        features=replace(features, headers=_dict(features.headers), priors=_dict(features.priors)),
        load=replace(load, engines=engines, breakers=breakers, thresholds=thresholds),
        plan=None if plan is None else _since_arrival(plan, arrived_at),
    )


def encode_record(record: DecisionRecord) -> bytes:
    """JSON, on one line."""
    return msgspec.json.encode(record, order="deterministic")


def decode_record(line: bytes | str) -> DecisionRecord:
    """The inverse of `encode_record`. Raises msgspec.DecodeError."""
    return msgspec.json.decode(line, type=DecisionRecord)


def _since_arrival(plan: Plan, arrived_at: float) -> Plan:
    cascade = plan.cascade
    if cascade is not None:
        finite = _finite({"threshold": cascade.threshold} | ({} if cascade.level is None else {"level": cascade.level}))
        cascade = msgspec.structs.replace(cascade, **finite)
    return msgspec.structs.replace(
        plan,
        cascade=cascade,
        ttft_at=plan.ttft_at - arrived_at,
        first_by=None if plan.first_by is None else plan.first_by - arrived_at,
        total_at=plan.total_at - arrived_at,
    )


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """Replace infinities, which JSON does not have, by the largest float, with which decisions are the same."""
    largest = sys.float_info.max
    return {name: min(max(number, -largest), largest) for name, number in numbers.items()}


def _dict(mapping: Mapping[str, _Value]) -> Mapping[str, _Value]:
    return dict(mapping) if isinstance(mapping, MappingProxyType) else mapping
