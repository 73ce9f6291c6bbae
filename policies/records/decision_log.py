"""The last decisions, kept by request id: bounded by their number and by the memory that they take up."""

import sys
from collections import OrderedDict

import msgspec

from policies.model.attempt_record import AttemptRecord
from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import Plan
from policies.records.decision_record import DecisionRecord, Timings, TokenCounts, decision_record

_WORDS_BYTES = 1024
"""Of upstreams' words on errors, in one entry at the most."""
_ENTRY_BYTES = 2048 + _WORDS_BYTES
"""What an entry takes up without its texts: features, plan, rungs, and its part of a load that others share."""


class DecisionEnd(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How it ended; see `DecisionRecord`."""

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


def with_fewer_words(attempts: tuple[AttemptRecord, ...]) -> tuple[AttemptRecord, ...]:
    """The same, with what upstreams said as far as there is room for it in an entry."""
    left = _WORDS_BYTES
    kept = []
    for attempt in attempts:
        left -= sys.getsizeof(attempt.said) if attempt.said else 0
        kept.append(attempt if left >= 0 else msgspec.structs.replace(attempt, said=""))
    return tuple(kept)


class LoggedDecision:
    """One request's. It becomes a record when somebody asks for it: most are never asked for."""

    __slots__ = ("_arrived_at", "_features", "_load", "_plan", "_policy", "bytes", "end", "request_id")

    def __init__(
        self, request_id: str, *, arrived_at: float, policy: str, features: Features, load: Load, plan: Plan | None
    ) -> None:
        """`policy`: the digest of the one that decided."""
        self.request_id = request_id
        self.end: DecisionEnd | None = None
        """None while it runs."""
        self._arrived_at = arrived_at
        self._policy = policy
        self._features = features
        self._load = load
        self._plan = plan
        self.bytes = _ENTRY_BYTES + _text_bytes(features, plan)

    def record(self) -> DecisionRecord:
        """As it stands."""
        record = decision_record(
            request_id=self.request_id,
            arrived_at=self._arrived_at,
            policy=self._policy,
            features=self._features,
            load=self._load,
            plan=self._plan,
        )
        end = self.end
        if end is None:
            return record
        return msgspec.structs.replace(record, **{name: getattr(end, name) for name in end.__struct_fields__})


class DecisionLog:
    """The oldest go first. Mutable; written by whichever task decides, without a wait in between."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._kept: OrderedDict[str, LoggedDecision] = OrderedDict()
        self._bytes = 0
        self._most = most
        self._most_bytes = most_bytes

    def apply_settings(self, most: int, most_bytes: int) -> None:
        """Other bounds from now on."""
        self._most, self._most_bytes = most, most_bytes
        self._make_room()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """An upper estimate of what they take up."""
        return self._bytes

    def add(self, decision: LoggedDecision) -> None:
        """The newest one."""
        before = self._kept.pop(decision.request_id, None)
        if before is not None:
            self._bytes -= before.bytes
        self._kept[decision.request_id] = decision
        self._bytes += decision.bytes
        if len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._make_room()

    def find(self, request_id: str) -> DecisionRecord | None:
        """None: unknown, or too long ago."""
        found = self._kept.get(request_id)
        return None if found is None else found.record()

    def _make_room(self) -> None:
        while self._kept and (len(self._kept) > self._most or self._bytes > self._most_bytes):
            self._bytes -= self._kept.popitem(last=False)[1].bytes


def _text_bytes(features: Features, plan: Plan | None) -> int:
    """Clients choose how long some of these are."""
    size = len(features.model) + len(features.user) + len(features.conversation)
    size += sum([len(tag) for tag in features.tags])
    size += sum([len(name) + len(value) for name, value in features.headers.items()])
    if plan is not None:
        size += sum([len(reason) for reason in plan.reasons]) + 256 * len(plan.rungs)
    return size
