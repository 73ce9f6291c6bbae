"""The most recent decisions by request id, bounded in number and in memory."""

import sys
from collections import OrderedDict
from functools import partial

import msgspec

from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import AttemptRecord, Plan
from policies.records.decision_record import DecisionRecord, Timings, TokenCounts, decision_record

_MAX_MESSAGE_BYTES = 1024
"""Limit on the upstreams' error messages in one entry."""
_ENTRY_BYTES = 2048 + _MAX_MESSAGE_BYTES
"""Estimated memory of an entry without texts of the client: features, plan, rungs, a part of the shared load."""


class DecisionEnd(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a request ended. The fields are those of `DecisionRecord` with the same names."""

    outcome: str
    code: str
    rung: str
    adapter: str = ""
    attempts: tuple[AttemptRecord, ...] = ()
    statistic: float | None = None
    degraded: tuple[str, ...] = ()
    cost: float | None = None
    tokens: TokenCounts = TokenCounts()
    timings: Timings = Timings()


def with_bounded_messages(attempts: tuple[AttemptRecord, ...]) -> tuple[AttemptRecord, ...]:
    """The attempts, without the upstream messages that exceed `_MAX_MESSAGE_BYTES` in total."""
    left = _MAX_MESSAGE_BYTES
    bounded = []
    for attempt in attempts:
        left -= sys.getsizeof(attempt.said) if attempt.said else 0
        bounded.append(attempt if left >= 0 else msgspec.structs.replace(attempt, said=""))
    return tuple(bounded)


class LoggedDecision:
    """The decision for one request. The `DecisionRecord` is made only on request, since most are never read."""

    __slots__ = ("_record", "bytes", "end", "request_id")

    def __init__(
        self, request_id: str, *, arrived_at: float, policy: str, features: Features, load: Load, plan: Plan | None
    ) -> None:
        """`policy`: the digest of the policy that decided."""
        self.request_id = request_id
        self.end: DecisionEnd | None = None
        """None while the request runs."""
        self._record = partial(decision_record, request_id, arrived_at, policy, features, load, plan)
        self.bytes = _ENTRY_BYTES + _text_bytes(features, plan)

    def record(self) -> DecisionRecord:
        ended = {} if self.end is None else msgspec.structs.asdict(self.end)
        return msgspec.structs.replace(self._record(), **ended)


class DecisionLog(msgspec.Struct, eq=False):
    """Drops the oldest decisions first. Mutable; all methods are synchronous, so any task may call them."""

    _max_decisions: int
    _max_bytes: int
    bytes: int = 0
    """An upper estimate of the memory in use."""
    _decisions: OrderedDict[str, LoggedDecision] = msgspec.field(default_factory=OrderedDict)

    def apply_settings(self, max_decisions: int, max_bytes: int) -> None:
        self._max_decisions, self._max_bytes = max_decisions, max_bytes
        self._evict()

    def __len__(self) -> int:
        return len(self._decisions)

    def add(self, decision: LoggedDecision) -> None:
        """Add the newest decision; it replaces an older one with the same request id."""
        before = self._decisions.pop(decision.request_id, None)
        if before is not None:
            self.bytes -= before.bytes
        self._decisions[decision.request_id] = decision
        self.bytes += decision.bytes
        self._evict()

    def find(self, request_id: str) -> DecisionRecord | None:
        """None if the id is unknown or its decision was dropped."""
        decision = self._decisions.get(request_id)
        return None if decision is None else decision.record()

    def _evict(self) -> None:
        while self._decisions and (len(self._decisions) > self._max_decisions or self.bytes > self._max_bytes):
            self.bytes -= self._decisions.popitem(last=False)[1].bytes


def _text_bytes(features: Features, plan: Plan | None) -> int:
    """Size of the texts whose length the client controls."""
    size = len(features.model) + len(features.user) + len(features.conversation)
    for tag in features.tags:
        size += len(tag)
    for name, value in features.headers.items():
        size += len(name) + len(value)
    if plan is not None:
        size += 256 * len(plan.rungs)
        for reason in plan.reasons:
            size += len(reason)
    return size
