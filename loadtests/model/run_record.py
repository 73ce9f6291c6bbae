"""What came out of a run: a versioned JSON file that later commands compare, plot and merge."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from loadtests.model.latency_histogram import LatencyHistogram
from loadtests.model.scenario import Scenario

GROUPS = ("tenant", "tier", "model", "transport", "kind", "rung")
"""What requests are grouped by."""


class RunMachine(msgspec.Struct, frozen=True):
    """Where the load tester ran."""

    name: str
    cpu: str
    cpus: int
    """Those that this process may use."""
    system: str
    python: str


class RunHost(msgspec.Struct, frozen=True):
    """A host that sent a part of the requests."""

    name: str
    part: int = 1
    parts: int = 1
    begun_at: float = 0.0
    """The beginning of its run: Unix time, by its own clock."""
    clock_error_s: float | None = None
    """So far its clock may be off, as far as its kernel knows by NTP; None: it is not synchronised, or cannot say."""


class RunHeader(msgspec.Struct, frozen=True):
    """What was run."""

    penstock: str
    """Version of this tool."""
    started_at: str
    """ISO 8601, UTC."""
    scenario: Scenario
    machine: RunMachine
    warm_up_s: float
    warm_up_rule: str
    """In words: what is not in the totals."""
    measured_s: float
    """From the end of the warm-up to the end of the run's duration, or to where it was cut short."""
    window_s: float = 1.0
    server: str = ""
    """The server's own name, if it sends one."""
    hosts: tuple[RunHost, ...] = ()
    """One, or all whose parts were merged."""


class RunVerdict(msgspec.Struct, frozen=True):
    """Whether the figures are the server's and not the load tester's."""

    valid: bool = True
    reasons: tuple[str, ...] = ()
    """Why they are not, in words."""
    cut_short: bool = False
    """The run was ended before its time."""
    warnings: tuple[str, ...] = ()


class Latencies(msgspec.Struct, omit_defaults=True):
    """Those of answers that ended well. Response times are from the intended time, service times from sending."""

    ttft: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    """From the intended time to the first content."""
    ttft_service: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    e2e: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    """From the intended time to the end of the answer."""
    e2e_service: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    itl: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    """Every gap between two events with content."""
    tpot: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    """(E2E - TTFT) / (tokens - 1), one for each answer."""
    queue: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    """Waiting inside the server, where the server says it."""
    place: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    """Waiting for a place among `max_in_flight`, before sending."""
    connect: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    """Opening a connection, for requests that needed a new one."""

    def merge(self, other: "Latencies") -> None:
        for name, histogram in self.items():
            histogram.merge(getattr(other, name))

    def items(self) -> Iterator[tuple[str, LatencyHistogram]]:
        """All of them, by name."""
        for name in self.__struct_fields__:
            yield name, getattr(self, name)


class DeliveredCounts(msgspec.Struct, omit_defaults=True):
    """What came within the measured time, whenever it was asked for: rates are of these. In a window: what came in it.

    An overloaded server answers much of what it was asked after the last request. Counted over the time of the
    requests alone that would be more than it can deliver.
    """

    good: int = 0
    """Good answers that ended."""
    prompt_tokens: int = 0
    """Of whole answers that ended."""
    tokens: float = 0.0
    """Of all answers, whole or not, by the arrival of their events; those of a whole answer share its tokens evenly."""
    good_tokens: float = 0.0
    cost: float = 0.0
    """Of whole answers that ended."""

    def merge(self, other: "DeliveredCounts") -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Measures(msgspec.Struct, omit_defaults=True):
    """Counts and latencies of some requests: of all, of a group, or of a second."""

    requests: int = 0
    """All that were meant to be sent."""
    ok: int = 0
    """Whole answers."""
    good: int = 0
    """Whole answers that met every SLO."""
    left: int = 0
    """Their client left on purpose."""
    shed: int = 0
    """Refused for load or limits: 429 and 503."""
    failed: int = 0
    """Everything else: see `RunRecord.failures`."""
    degraded: int = 0
    escalated: int = 0
    """Answers that the server says came from a cascade's large stage after its small one."""
    retries: int = 0
    resumed: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    """Of whole answers, as the server counts them; where it does not, events with content."""
    good_tokens: int = 0
    cost: float = 0.0
    """Money for whole answers, as the server says it, else by the scenario's `prices`; 0.0: there was none, or it is
    not known."""
    latencies: Latencies = msgspec.field(default_factory=Latencies)
    delivered: DeliveredCounts = msgspec.field(default_factory=DeliveredCounts)

    @property
    def judged(self) -> int:
        """Requests that are good or not: whether a client that left would have been served well is not known."""
        return self.requests - self.left

    @property
    def good_share(self) -> float:
        """Of those that are judged; 0.0: there are none."""
        return self.good / self.judged if self.judged else 0.0

    @property
    def token_cost(self) -> float | None:
        """Money for a million output tokens; None: it is not known."""
        return 1e6 * self.cost / self.output_tokens if self.cost and self.output_tokens else None

    @property
    def good_token_cost(self) -> float | None:
        """All that was paid, for a million of those output tokens that came in time; None: it is not known."""
        return 1e6 * self.cost / self.good_tokens if self.cost and self.good_tokens else None

    def merge(self, other: "Measures") -> None:
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if name in {"latencies", "delivered"}:
                mine.merge(theirs)
            else:
                setattr(self, name, mine + theirs)


class RunWindow(msgspec.Struct, omit_defaults=True):
    """A second of the run, or `RunHeader.window_s`. The warm-up is included; histograms have wider buckets."""

    begins_s: float
    sent: int = 0
    ended: int = 0
    in_flight: int = 0
    """At its end."""
    tokens: int = 0
    """Events with content that arrived."""
    measures: Measures = msgspec.field(default_factory=Measures)
    """Of requests that were meant to be sent in it; ITL and what was delivered are in the second of their arrival."""
    lag_p99_s: float = 0.0

    def merge(self, other: "RunWindow") -> None:
        """The same second of another worker."""
        self.sent += other.sent
        self.ended += other.ended
        self.in_flight += other.in_flight
        self.tokens += other.tokens
        self.lag_p99_s = max(self.lag_p99_s, other.lag_p99_s)
        self.measures.merge(other.measures)


class FailureCount(msgspec.Struct, frozen=True):
    """One way to fail."""

    name: str
    """See `loadtests.client.failures`."""
    count: int
    status: int = 0
    code: str = ""
    """The server's own error code."""
    tier: str = ""
    example: str = ""
    """Of the first one: the server's words, or what was seen."""


class GeneratorLag(msgspec.Struct):
    """The load tester's own part in every latency."""

    sending: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    """From the intended time, or from the free place where there was a wait for one, to sending."""
    reading: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    """From the arrival of bytes at the machine to the end of their parsing."""
    by_kernel: bool = True
    """The kernel's time stamps tell when bytes arrived; else the end of the last wait for them does."""
    busiest: float = 0.0
    """Of the workers: the share of a core's time that it took. Near 1 its lag grows."""

    def merge(self, other: "GeneratorLag") -> None:
        """That of another worker."""
        self.sending.merge(other.sending)
        self.reading.merge(other.reading)
        self.by_kernel = self.by_kernel and other.by_kernel
        self.busiest = max(self.busiest, other.busiest)


class RequestRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request. Times are seconds from the beginning of the run."""

    number: int
    """In the order of the schedule."""
    kind: str
    outcome: str
    """"ok", "left", "shed", or a failure's name."""
    intended_s: float
    sent_s: float
    end_s: float
    tenant: str = ""
    tier: str = ""
    model: str = ""
    transport: str = "sse"
    session: int = -1
    turn: int = 0
    first_s: float | None = None
    """The first content's arrival."""
    itl_max_s: float = 0.0
    tpot_s: float | None = None
    queue_s: float | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    status: int = 0
    code: str = ""
    rung: str = ""
    good: bool = False
    attempts: int = 1
    measured: bool = True
    """False: it belongs to the warm-up."""
    timings: dict[str, float] = msgspec.field(default_factory=dict)
    """The server's own, in seconds, by its own names."""


class FaultRecord(msgspec.Struct, frozen=True):
    """A fault as it was carried out. Times are seconds from the beginning of the run."""

    name: str
    kind: str
    begin_s: float
    end_s: float
    outcome: str = "done"
    """Or what went wrong with the fault itself."""
    share_before: float | None = None
    """Of good requests before it; None: there were none, and nothing can be said."""
    had_effect: bool = False
    share_worst: float | None = None
    """Of good requests, in the worst second after its beginning."""
    recovered_after_s: float | None = None
    """From its beginning, by the rule in `loadtests.faults.recovery`; None: it had no effect, or lasted to the end."""


class RunRecord(msgspec.Struct):
    """One run."""

    header: RunHeader
    verdict: RunVerdict
    totals: Measures
    groups: dict[str, dict[str, Measures]]
    """By `GROUPS`, and by name; the warm-up is left out, as in the totals."""
    windows: tuple[RunWindow, ...]
    failures: tuple[FailureCount, ...]
    lag: GeneratorLag
    fairness: float | None
    """Jain's index over the tenants' output tokens; None: fewer than two tenants."""
    rows: tuple[RequestRow, ...]
    """Of all requests, or an even sample of them."""
    requests: int
    """All, the warm-up included: `rows` are so many or fewer."""
    faults: tuple[FaultRecord, ...] = ()
    format: Literal["penstock-load-run"] = "penstock-load-run"
    version: Literal[2] = 2
