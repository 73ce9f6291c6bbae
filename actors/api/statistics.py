"""Figures for `/metrics` and for people: frozen statistics, and the counters and histograms behind them.

Counters are written by whichever task ends a request or emits a token, without an await in between: no actor is needed.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

import msgspec

from actors.api.engine_status import EngineState
from engine.messages import EngineStats
from policies.admission.budget import BudgetView
from policies.queueing.quarantine import QuarantineStatistics
from policies.rollout.rollout_state import CascadeView, ExperimentView
from policies.rollout.shadow import ShadowView

LATENCY_BOUNDS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5,
    0.75, 1.0, 1.5, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
)  # fmt: skip
"""Upper bounds of the histograms' buckets; a last bucket takes the rest."""


class Histogram(msgspec.Struct, frozen=True):
    """Observations by bucket (`counts[i]`: not cumulative; one more entry than bounds) with their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class RequestKey(msgspec.Struct, frozen=True):
    """What finished requests are counted by."""

    route: str
    rung: str
    outcome: str
    """ok, failed (after content), refused, gone (the client left), overrun (the reader was too slow)."""
    why: str
    """The last attempt's reason code, or the error's code."""


class LatencyStatistics(msgspec.Struct, frozen=True):
    """Seconds, over all requests that were answered."""

    ttft: Histogram
    itl: Histogram
    e2e: Histogram
    queue_wait: Histogram


class QueueStatistics(msgspec.Struct, frozen=True):
    """The fair queue in front of one engine."""

    requests: int
    tokens: int
    inside: int
    """Sequences in the engine."""
    refused_total: int
    expired_total: int
    expected_wait_s: float


class ReplicaView(msgspec.Struct, frozen=True):
    """One replica of an engine."""

    state: EngineState
    restarts_total: int
    stats: EngineStats
    ejected_total: int = 0
    """How often it got no jobs for a time because it was too slow."""


class ReplicaStatistics(msgspec.Struct, frozen=True):
    """Figures of one address."""

    outstanding: int
    started_total: int
    failed_total: int
    rests_for_s: float
    ejected_total: int = 0
    """How often it did so much worse than the others that it was left out for a while."""


class UpstreamStatistics(msgspec.Struct, frozen=True):
    """One upstream."""

    requests_total: int
    """Sent to any of its addresses."""
    failures_total: Mapping[str, int]
    """By kind: actors/upstream/failures/failure.py, and upstream_silent."""
    ttft: Histogram
    """From the call's start to its first content."""
    running: int
    waiting: int
    generation_tokens_total: int
    hedges_total: Mapping[str, int]
    """Second calls beside a slow one: those that answered first ("won"), and the others."""
    replicas: Mapping[str, ReplicaStatistics]
    """By address."""
    known_conversations_total: int = 0
    """Calls whose conversation one of the addresses had answered before."""


class AdapterView(msgspec.Struct, frozen=True):
    """One version of an adapter, as operators see it."""

    engine: str
    name: str
    version: int
    current: bool = False
    """New requests get it; otherwise it only serves requests that started with it."""
    configured: bool = False
    """The configuration names it with this folder. Other adapters are lost when the process restarts."""
    running: int = 0
    """Sequences that use it, as of the last step."""
    path: str = ""
    digest: str = ""
    rank: int = 0
    memory_bytes: int = 0


class LedgerStatistics(msgspec.Struct, frozen=True):
    """Of the ledger."""

    open: int
    """Entries that are not closed."""
    settled_total: int
    commits_total: int
    recovered_total: int
    """Entries that a crash had left open, charged at this start."""
    pending: int
    """Entries and closings that are not committed yet."""
    failing: bool = False
    """The file cannot be written."""
    unwritten_cost: float = 0.0
    """Money reserved by entries that are not committed yet."""


class KeptStatistics(msgspec.Struct, frozen=True):
    """Answers that go on without their client."""

    answers: int = 0
    used_bytes: int = 0
    attached_total: int = 0
    """Readers of an answer that was there already."""
    stored: int = 0
    """Answers that are in the file, too."""
    continued_total: int = 0
    """Answers of ended processes that went on."""
    store_failures_total: int = 0
    """How often the file could not be opened or written."""


class BatchStatistics(msgspec.Struct, frozen=True):
    """Batches that have not ended, and the files for batches."""

    batches: Mapping[str, int] = msgspec.field(default_factory=dict)
    """By status."""
    in_flight: int = 0
    """Requests that were begun and have no result."""
    answered_total: int = 0
    failed_total: int = 0
    """Requests whose result is an error."""
    retried_total: int = 0
    """Requests that were refused for now, and are tried again."""
    files: int = 0
    stored_bytes: int = 0


class PolicyStatistics(msgspec.Struct, frozen=True):
    """The policy in force, and the attempts to change it by outcome."""

    policy: str = ""
    """Its digest."""
    since: float = 0.0
    """Seconds since 1970."""
    reloads_total: Mapping[str, int] = msgspec.field(default_factory=dict)
    """By outcome: swapped, unchanged, refused."""


class ServiceStatistics(msgspec.Struct, frozen=True):
    """A snapshot; it is made without messages to actors."""

    requests_total: Mapping[RequestKey, int]
    refusals_total: Mapping[str, int]
    """By error code; admission's and the router's refusals included."""
    escalations_total: Mapping[tuple[str, str], int]
    """(route, why)"""
    fallbacks_total: Mapping[tuple[str, str, str], int]
    """(route, from rung, why): attempts that failed and were followed by another."""
    prompt_tokens_total: int
    completion_tokens_total: int
    reasoning_tokens_total: int
    """Tokens that clients received."""
    discarded_tokens_total: int
    """Tokens that engines made and no client received."""
    overrun_total: int
    in_flight: int
    kept: KeptStatistics
    batches: BatchStatistics
    latency: LatencyStatistics
    engines: Mapping[str, EngineStats]
    """Sums over replicas."""
    replicas: Mapping[str, tuple[ReplicaView, ...]]
    engine_restarts_total: Mapping[str, int]
    queues: Mapping[str, QueueStatistics]
    breakers: Mapping[str, str]
    """closed, open or half_open, by rung."""
    ledger: LedgerStatistics
    usage: Mapping[tuple[str, str, str], tuple[int, int, int]]
    """(tenant, rung, outcome): requests, prompt tokens, completion tokens."""
    costs: Mapping[tuple[str, str], float]
    """(tenant, rung that answered): money, by [prices]."""
    budgets: Mapping[str, BudgetView]
    """By tenant."""
    cascades: Mapping[str, CascadeView]
    """Those with a target."""
    experiments: Mapping[str, ExperimentView]
    notices_total: Mapping[tuple[str, str], int]
    """(event, cascade or experiment): what the policy's rollout state has logged."""
    upstreams: Mapping[str, UpstreamStatistics] = msgspec.field(default_factory=dict)
    policy: PolicyStatistics = PolicyStatistics()
    shadows: Mapping[str, ShadowView] = msgspec.field(default_factory=dict)
    quarantine: QuarantineStatistics = QuarantineStatistics()
    adapters: tuple[AdapterView, ...] = ()
    """Of all engines, every version in memory."""
    actor_restarts_total: Mapping[str, int] = msgspec.field(default_factory=dict)
    """By actor."""
    backends_down: Mapping[str, bool] = msgspec.field(default_factory=dict)
    """Whether it is marked down: restarts did not help, and the next one follows after a long pause."""
    auxiliaries_off: Mapping[str, bool] = msgspec.field(default_factory=dict)
    """Whether it has failed too often and stays off until the process restarts."""


class HistogramCounter:
    """A histogram that is being filled."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.sum += seconds

    def frozen(self) -> Histogram:
        return Histogram(LATENCY_BOUNDS_S, tuple(self.counts), self.sum)


class ServiceCounters:
    """All counters."""

    def __init__(self) -> None:
        self.requests: Counter[RequestKey] = Counter()
        self.refusals: Counter[str] = Counter()
        self.escalations: Counter[tuple[str, str]] = Counter()
        self.fallbacks: Counter[tuple[str, str, str]] = Counter()
        self.notices: Counter[tuple[str, str]] = Counter()
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.reasoning_tokens = 0
        self.discarded_tokens = 0
        self.overruns = 0
        self.ttft = HistogramCounter()
        self.itl = HistogramCounter()
        self.e2e = HistogramCounter()
        self.queue_wait = HistogramCounter()

    def latency(self) -> LatencyStatistics:
        return LatencyStatistics(self.ttft.frozen(), self.itl.frozen(), self.e2e.frozen(), self.queue_wait.frozen())
