"""A service whose answers are scripted: the same API as `actors.service.Service`, no engine behind it."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from actors.api.errors import Refusal
from actors.api.request import InferenceRequest
from actors.api.response import AttemptSummary, DecisionInfo, Delta, Done, ResponseEvent, Served, Start, Usage
from actors.api.statistics import (
    Histogram,
    LatencyStatistics,
    LedgerStatistics,
    QueueStatistics,
    ReplicaStatistics,
    ReplicaView,
    RequestKey,
    ServiceStatistics,
    UpstreamStatistics,
)
from actors.batches.batch_store import BatchStore
from actors.batches.batches import Batches
from actors.batches.file_rows import FileLimits
from actors.batches.ports import BatchPorts
from actors.batches.stored_batches import StoredBatches
from actors.kept.kept_answers import KeptAnswers
from actors.kernel.errors import ServiceStalled
from actors.request.request_log import RequestLog
from actors.request.response_stream import EventSink
from actors.stored.response_store import ResponseStore
from actors.stored.stored_responses import StoredResponses
from actors.worker_threads import RealWorkerThreads
from config.model.batch import BatchSettings
from engine.messages import EngineStats, FinishReason, TokenLogprobs
from policies.admission.budget import BudgetView
from policies.admission.keys import KeyGrant
from policies.admission.quota import RateLimits
from policies.queueing.turn_queue import WorkFor
from policies.rollout.rollout_state import ArmView, CascadeView, ExperimentView
from policies.rollout.share_controller import ShareView

SERVED = Served("tests", "small", "confident", (AttemptSummary("small", "answered", "confident"),), None, 1.5)
USAGE = Usage(5, 3, 2)
Step = Sequence[ResponseEvent] | BaseException | Callable[[], Awaitable[None]]
"""Events to hand out at once, an exception to raise, or something to wait for."""


def words(*texts: str, index: int = 0, reason: FinishReason = "stop", logprobs: bool = False) -> list[ResponseEvent]:
    """One delta a text; the last one ends the choice."""
    return [
        Delta(
            index,
            text,
            (number,),
            (TokenLogprobs(number, -0.5, text.encode(), ((number, -0.5, text.encode()), (9, -2.0, b"\xc3"))),)
            if logprobs
            else (),
            reason if number == len(texts) - 1 else None,
        )
        for number, text in enumerate(texts)
    ]


def answer(*texts: str, **options: object) -> list[Step]:
    """Start, the texts one by one, done."""
    deltas = words(*texts, **options)  # type: ignore[arg-type]
    return [[Start("tests", "small", 5)], *[[each] for each in deltas], [Done(USAGE, SERVED)]]


def HELD_BACK() -> None:  # noqa: N802
    """A step: something is being made, and nothing of it is shown yet."""


class FakeResponseStream:
    def __init__(self, service: "FakeService", steps: Sequence[Step]) -> None:
        self._service = service
        self._steps = list(steps)
        self.closed = trio.Event()
        self.on_held_back: Callable[[], None] | None = None

    @property
    def decided(self) -> DecisionInfo:
        return self._service.decided

    async def next_events(self) -> list[ResponseEvent]:
        await trio.lowlevel.checkpoint()
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, BaseException):
                raise step
            if step is HELD_BACK:
                if self.on_held_back is not None:
                    self.on_held_back()
            elif callable(step):
                await step()
            else:
                return list(step)
        return []

    def emit_through(self, sink: EventSink) -> None:
        """Everything goes through `next_events`."""

    def close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            self._service.open_responses -= 1


@dataclass
class FakeEngineReadiness:
    state: str = "ready"
    why: str | None = None


@dataclass
class FakeModelReadiness:
    ready: bool = True
    rungs: dict[str, str] = field(default_factory=lambda: {"small": "ready"})


@dataclass
class FakeReadiness:
    ready: bool = True
    state: str = "serving"
    engines: dict[str, FakeEngineReadiness] = field(default_factory=lambda: {"small": FakeEngineReadiness()})
    models: dict[str, FakeModelReadiness] = field(default_factory=lambda: {"small": FakeModelReadiness()})


@dataclass
class FakeCard:
    id: str
    description: str = "a <fake> model"
    created: int = 1_700_000_000
    max_model_len: int | None = 512
    parent: str | None = None
    available: bool = True


class FakeService:
    """`script` says, for each request, what happens; an exception from it is what `open` raises."""

    wall = staticmethod(time.time)

    def __init__(
        self,
        script: Callable[[InferenceRequest], Sequence[Step]] | None = None,
        *,
        check_key: Callable[[str | None], None] = lambda _: None,
        check_scraper: Callable[[str | None], None] = lambda _: None,
        keyless: bool = False,
    ) -> None:
        """`keyless`: other sites are kept out."""
        self.script = script or (lambda _: answer("Hel", "lo"))
        self.requests: list[InferenceRequest] = []
        self.responses: list[FakeResponseStream] = []
        self.open_responses = 0
        self.opened = trio.Event()
        self.ready = FakeReadiness()
        self.stalled = False
        self.decided = DecisionInfo("test")
        self.policy = "test"
        self.clients = self
        self.keyless = keyless
        self.check_key = check_key
        self.check_scraper = check_scraper
        self.request_log = RequestLog(lambda: True, lambda: self.policy)
        self.limits: RateLimits | None = None
        self.kept = KeptAnswers(self.open, keep_s=60.0, memory_bytes=1 << 27, wall=self.wall)
        store = partial(ResponseStore, None, most_bytes=1 << 24, keep_s=3600.0, wall=self.wall)
        batches = partial(BatchStore, None, FileLimits(1 << 24, 1 << 22, 1e6), self.wall)
        workers = RealWorkerThreads(open_responses=store, open_batches=batches)
        self.stored = StoredResponses(workers, keeps=True)
        self.batches = Batches(
            StoredBatches(workers),
            BatchSettings(),
            BatchPorts(
                open=self.open,
                serves=lambda: True,
                limits=lambda _: (self.limits, None),
                model_fault=lambda _: "",
                run_in_thread=workers.run_in_thread,
                wall=self.wall,
            ),
        )

    def tenant_of(self, key: str | None, body: object = None) -> str:
        """Each key is a tenant's own."""
        self.check_key(key)
        return key or "tests"

    def known_tenant(self, key: str | None) -> str:
        try:
            self.check_key(key)
        except Refusal:
            return ""
        return "tests"

    def grant_for_batch(self, key: str | None, endpoint: str) -> KeyGrant:
        return KeyGrant(self.tenant_of(key), key or "")

    def work_of(self, key: str | None) -> WorkFor:
        return WorkFor(key or "")

    def tiers_above(self, key: str | None, endpoint: str | None = None) -> int:
        self.check_key(key)
        return 0

    async def open(self, request: InferenceRequest) -> FakeResponseStream:
        await trio.lowlevel.checkpoint()
        self.requests.append(request)
        response = FakeResponseStream(self, self.script(request))
        self.responses.append(response)
        self.open_responses += 1
        self.opened.set()
        return response

    def rate_limits(self, key: str | None) -> RateLimits | None:
        return self.limits

    def readiness(self) -> FakeReadiness:
        return self.ready

    def check_progress(self) -> None:
        if self.stalled:
            raise ServiceStalled("the ledger hangs")

    def models(self, key: str | None = None) -> tuple[FakeCard, ...]:
        self.check_key(key)
        return (FakeCard("penstock"), FakeCard("org/other", available=False))

    def statistics(self) -> ServiceStatistics:
        histogram = Histogram((0.1, 1.0), (3, 2, 1), 4.5)
        stats = EngineStats(
            *(64, 48, 8, 2, 1, 100),
            preemptions_total=1,
            prefix_queries_total=40,
            prefix_hits_total=10,
            host_blocks=5,
            swapped_out_total=9,
            swapped_in_total=4,
        )
        return ServiceStatistics(
            requests_total={RequestKey("tests", "small", "ok", "confident"): 6},
            refusals_total={"over_quota": 2},
            escalations_total={("tests", "low_margin"): 1},
            fallbacks_total={("tests", "small", "engine_failed"): 1},
            prompt_tokens_total=30,
            completion_tokens_total=18,
            reasoning_tokens_total=0,
            discarded_tokens_total=4,
            overrun_total=0,
            in_flight=self.open_responses,
            kept=self.kept.statistics(),
            batches=self.batches.statistics(),
            latency=LatencyStatistics(histogram, histogram, histogram, histogram),
            engines={"small": stats},
            replicas={"small": (ReplicaView("ready", 0, stats),)},
            engine_restarts_total={"small": 0},
            queues={"small": QueueStatistics(1, 20, 2, 0, 0, 0.25)},
            breakers={"small": "half_open"},
            ledger=LedgerStatistics(1, 5, 5, 0, 0),
            usage={("anonymous", "small", "ok"): (6, 30, 18)},
            costs={("anonymous", "small"): 0.125},
            budgets={"anonymous": BudgetView(10.0, "day", 2.0, 0.5, 3600.0)},
            cascades={"thrifty": CascadeView(0.46, ShareView(0.25, 0.31, 500, True), 1.5)},
            experiments={"try": ExperimentView(True, "slow", False, {"b": ArmView(9, 8, {"error_rate": (2, 9)}, {})})},
            notices_total={("cascade_drifted", "thrifty"): 1},
            actor_restarts_total={"recorder": 6},
            backends_down={"small": False, "cloud": True},
            auxiliaries_off={"recorder": True},
            upstreams={
                "cloud": UpstreamStatistics(
                    9,
                    {"upstream_error": 2},
                    histogram,
                    1,
                    0,
                    70,
                    {"won": 1},
                    {"http://up/v1": ReplicaStatistics(1, 9, 2, 0.5)},
                )
            },
        )
