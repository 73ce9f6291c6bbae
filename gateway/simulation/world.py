"""The discrete-event loop of a simulation: arrivals, ends of engine steps and alarms in order of virtual time.

Events at the same time are handled in this order: engines (in the order of the settings), alarms, arrivals. The same
trace, policy, profile and seed give the same result.
"""

import heapq
from collections.abc import Callable, Mapping

import msgspec

from config.model.settings import Settings
from engine.messages import EngineStats
from gateway.profiling.profile import Profile
from gateway.simulation.simulated_queue import SimulatedQueue
from gateway.simulation.simulated_request import SimulatedRequest
from gateway.simulation.simulated_service import SimulatedService
from policies.admission.budget import BudgetBook, BudgetRefusal, set_aside
from policies.admission.prices import cost_of
from policies.admission.quota import QuotaBook, QuotaRefusal
from policies.model.backends import Backends, EmbeddingModel, upstream_length
from policies.model.load import EngineLoad, Load
from policies.model.plan import Plan
from policies.records.trace import TraceRequest, trace_features
from policies.rollout.experiment import unit_of
from policies.rollout.rollout_state import AnswerResult, RolloutState
from policies.routing.busy import BusyBook
from policies.routing.planner import PlanningSnapshot, PlanRefusal, SizesNeeded, decide
from policies.routing.token_budget import PromptSizes

_NEVER = float("inf")
_FRESH_S = 0.02
"""How long a published load is used for routing."""
_SAMPLES = 240


class Sample(msgspec.Struct, frozen=True):
    """The state of one engine at one time."""

    at: float
    running: int
    queued: int
    """Jobs in the fair queue."""
    kv_usage: float


class World:
    """The simulation of one policy with one trace."""

    def __init__(
        self,
        settings: Settings,
        profile: Profile,
        trace: tuple[TraceRequest, ...],
        *,
        seed: int,
        shares: Mapping[str, float],
        fast_forward: bool = True,
    ) -> None:
        """`shares`: see `SimulatedDraws`. Without `fast_forward` it is slow and gives the same results.

        Raises BadProfile, BadTrace or UnknownMargins.
        """
        self.settings = settings
        self.trace = trace
        self.answers: list[SimulatedRequest] = []
        """Requests that have ended."""
        self.service = SimulatedService(settings, profile, trace, seed=seed, shares=shares, fast_forward=fast_forward)
        self.samples: dict[str, list[Sample]] = {name: [] for name in self.service.backend_queues}
        self.features = [trace_features(request, settings, number) for number, request in enumerate(trace)]
        self.delivery_s = profile.service.delivery_s
        """Seconds from the end of a step to the client."""
        self._arrival_s = profile.service.arrival_s
        self._quota = QuotaBook(self.service.tenants)
        self._budgets = BudgetBook(self.service.tenants)
        self._busy = BusyBook(settings)
        self._epoch = trace[0].wall_at - trace[0].at
        self._rollout = RolloutState(settings, self._epoch)
        self._load = Load()
        self._published_at = -_NEVER
        self._planning = PlanningSnapshot(self.service.policy, self.service.tenants, self._backends(profile))

    def run(self, progress: Callable[[float, int], None]) -> float:
        """Run until the last answer has ended, and return that time.

        `progress` is called now and then with the time and the number of requests that have arrived.
        """
        arrivals = [request.at + self._arrival_s for request in self.trace]
        next_arrival, now = 0, 0.0
        progress_every = max(len(arrivals) // 50, 1)
        sample_interval = max(arrivals[-1] / _SAMPLES, 1e-3)
        next_sample = 0.0
        service = self.service
        while True:
            at = arrivals[next_arrival] if next_arrival < len(arrivals) else _NEVER
            alarm = service.alarms[0][0] if service.alarms else _NEVER
            due, engine = _NEVER, None
            for candidate in service.engines:
                if candidate.due < due:
                    due, engine = candidate.due, candidate
            soonest = min(at, alarm, due)
            if soonest == _NEVER:
                # Not `now`: the last alarms may be deadlines of requests that have ended before.
                return max([answer.ended_at for answer in self.answers], default=now)
            if soonest > next_sample:
                self._sample(next_sample)
                next_sample += sample_interval
                continue
            now = soonest
            if due <= now and engine is not None:
                for sequence in engine.on_due(now):
                    sequence.on_stop(sequence, now)
                service.backend_queues[engine.name].advance(now)
            elif alarm <= now:
                heapq.heappop(service.alarms)[2](now)
            else:
                self._arrive(next_arrival, now)
                next_arrival += 1
                if not next_arrival % progress_every:
                    progress(now, next_arrival)
            service.watch_expiries()

    def _on_end(self, answer: SimulatedRequest, now: float) -> None:
        self.answers.append(answer)
        request, plan = answer.request, answer.plan
        refused, content_at = answer.outcome == "refused", answer.first_content_at
        if answer.reservation is not None:
            self._quota.settle(answer.reservation, 0 if refused else request.prompt_tokens + answer.shown)
        if answer.hold is not None:
            self._budgets.settle(answer.hold, 0.0 if refused else self.cost(answer))
        if plan is None:
            return
        experiments = [each for each in self.settings.experiments if each.name == plan.experiment]
        ending = AnswerResult(
            at=self._epoch + now,
            outcome=answer.outcome,
            rung=answer.rung,
            escalated=answer.escalated,
            fell_back=any(note.outcome in {"failed", "refused"} for note in answer.history[:-1]),
            truncated=False,
            ttft_s=None if content_at is None else content_at - answer.arrived_at,
            slo_ttft_s=float(self.settings.tiers[answer.features.tier].slo.ttft),
            unit=unit_of(answer.features, experiments[0].unit) if experiments else "",
            cost=self.cost(answer),
            held=answer.held,
            prompt_tokens=request.prompt_tokens,
            completion_tokens=answer.shown,
        )
        self._rollout.on_end(plan, ending)

    def cost(self, answer: SimulatedRequest) -> float:
        return sum([cost for _, cost in self.costs(answer)])

    def costs(self, answer: SimulatedRequest) -> list[tuple[str, float]]:
        """The cost of each attempt, by the policy's prices, with its rung. Failed attempts cost nothing."""
        price_of = self.settings.prices.get
        return [(rung, cost_of(price_of(rung), *tokens)) for rung, *tokens in answer.attempts]

    def _arrive(self, number: int, now: float) -> None:
        request, features = self.trace[number], self.features[number]
        answer = SimulatedRequest(self.service, number, request, features, self._on_end)
        at = self._epoch + now
        budget = self._budgets.view(features.tenant, at)
        if budget is not None:
            features = msgspec.structs.replace(features, budget_used=budget.used)
        sizes = PromptSizes.alike(features)
        decided = decide(self._planning, features, sizes, self._live_load(now), budget, request.at)
        assert not isinstance(decided, SizesNeeded), "a trace has one prompt length for all rungs"
        answer.features = decided.features
        if isinstance(decided, PlanRefusal):
            answer.refuse(decided.code, now)
            return
        tenant = features.tenant
        reserved = set_aside(self._quota, self._budgets, tenant, decided.tokens, decided.cost, now, at)
        assert not isinstance(reserved, BudgetRefusal), "the planner has checked the budget"
        if isinstance(reserved, QuotaRefusal):
            answer.refuse(reserved.limit, now)
            return
        answer.reservation, answer.hold = reserved
        answer.held = self._rollout.on_start(decided.plan, at, answer.hold.amount)
        answer.start(_simulated(decided.plan), now)

    def _backends(self, profile: Profile) -> Backends:
        """The same as in a server whose engines are loaded."""
        lengths = {
            name: each.max_model_len
            for name, each in self.service.backend_queues.items()
            if name in self.settings.engines
        }
        for name, upstream in self.settings.upstreams.items():
            lengths[name] = upstream_length(upstream.context, counts=upstream.tokenizer is not None)
        folders = {name: str(engine.model) for name, engine in self.settings.engines.items()}
        encoders = {name: EmbeddingModel(folders[name]) for name in profile.encoders if name in folders}
        return Backends(lengths, encoders)

    def _sample(self, at: float) -> None:
        for name, backend_queue in self.service.backend_queues.items():
            stats = backend_queue.stats(at)
            running = stats.running + stats.waiting
            self.samples[name].append(Sample(at, running, len(backend_queue.queue), _kv_usage(stats)))

    def _live_load(self, now: float) -> Load:
        if now - self._published_at >= _FRESH_S:
            service = self.service
            engines = {name: self._engine_load(name, each, now) for name, each in service.backend_queues.items()}
            load = Load(engines=engines, breakers={rung: each.view(now) for rung, each in service.breakers.items()})
            self._load = msgspec.structs.replace(
                load,
                busy=self._busy.update(load, now),
                thresholds=self._rollout.thresholds(self._epoch + now),
                rolled_back=self._rollout.rolled_back,
            )
            self._published_at = now
        elif self._rollout.steers:
            self._load = msgspec.structs.replace(self._load, thresholds=self._rollout.thresholds(self._epoch + now))
        return self._load

    def _engine_load(self, name: str, backend_queue: SimulatedQueue, now: float) -> EngineLoad:
        backend_queue.charge(now)
        stats = backend_queue.stats(now)
        return EngineLoad(
            name=name,
            running=stats.running,
            waiting=stats.waiting + len(backend_queue.queue),
            outstanding_tokens=stats.outstanding_tokens,
            kv_usage=_kv_usage(stats),
            expected_wait_s=backend_queue.queue.expected_wait_s(now),
        )


def _kv_usage(stats: EngineStats) -> float:
    return 1 - stats.free_blocks / stats.total_blocks


def _simulated(plan: Plan) -> Plan:
    """In mode "verified" the large stage answers alone: the time that drafts save is not simulated, nor are judges."""
    cascade = plan.cascade
    if cascade is None or (cascade.mode != "verified" and cascade.judge is None):
        return plan
    start_on = "large" if cascade.mode == "verified" else cascade.start_on
    return msgspec.structs.replace(plan, cascade=msgspec.structs.replace(cascade, start_on=start_on, judge=None))
