"""What probes, clients and scrapers read of the service: readiness, the models, and all figures. It owns nothing."""

from collections.abc import Collection, Mapping, Sequence

import msgspec
import trio

from actors.api.engine_status import BackendStatus, EngineState, EngineStatus, ReplicatedEngineStatus
from actors.api.statistics import ReplicaView, ServiceCounters, ServiceStatistics
from actors.batches.batches import Batches
from actors.breakers.breakers import BreakerRegistry
from actors.control.policy_reloader import PolicyStatus
from actors.engines.adapter_registry import AdapterRegistry
from actors.kept.kept_answers import KeptAnswers
from actors.kernel.clock import WallClock
from actors.ledger.ledger import LedgerState
from actors.queue.dispatcher import Backend
from actors.routing.router import Router
from actors.supervision_tree import TreeStatus
from actors.upstream.upstream_status import UpstreamStatus
from engine.messages import EngineStats
from policies.admission.budget import BudgetBook
from policies.lifecycle.drain import DrainState
from policies.lifecycle.readiness import BackendFacts, ModelReadiness, ServiceState, readiness
from policies.queueing.quarantine import Quarantine
from policies.rollout.rollout_state import RolloutState
from policies.rollout.shadow import ShadowBook

_NOTHING_YET = EngineStats(0, 0, 0, 0, 0, 0)


class EngineReadiness(msgspec.Struct, frozen=True):
    """Of one engine or upstream."""

    state: EngineState
    why: str | None
    """While loading: the last step; when failed: what went wrong."""


class Readiness(msgspec.Struct, frozen=True):
    """Of the service."""

    ready: bool
    state: ServiceState
    engines: Mapping[str, EngineReadiness]
    models: Mapping[str, ModelReadiness]


class ModelCard(msgspec.Struct, frozen=True):
    """A name that clients may use as `model`."""

    id: str
    description: str
    created: int
    """Unix time."""
    max_model_len: int | None
    """None until the engines are loaded."""
    parent: str | None = None
    """The base model of an adapter."""
    available: bool = True
    """False: every backend that may serve it is marked down."""


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """Made once by the service."""

    router: Router
    all_published: Mapping[str, BackendStatus]
    """Of engines and upstreams."""
    engines: Mapping[str, EngineStatus | ReplicatedEngineStatus]
    replicas: Mapping[str, Sequence[EngineStatus]]
    """By engine."""
    upstreams: Mapping[str, UpstreamStatus]
    backend_queues: Mapping[str, Backend]
    breakers: BreakerRegistry
    quarantine: Quarantine
    counters: ServiceCounters
    books: LedgerState
    budgets: BudgetBook
    rollout: RolloutState
    policy: PolicyStatus
    shadows: ShadowBook
    registry: AdapterRegistry
    tree: TreeStatus
    running: Collection[object]
    """The responses that have not ended."""
    kept: KeptAnswers
    batches: Batches
    wall: WallClock
    created: int
    """When the service was created, seconds since 1970."""

    def readiness(self, drain: DrainState, *, loaded: bool) -> Readiness:
        """`loaded`: everything was loaded once."""
        now = trio.current_time()
        facts = {
            name: BackendFacts(
                state=each.state,
                down=each.down_until is not None,
                breaker_open=self.breakers.view(name, now).state == "open",
                rests=name in self.upstreams and self.upstreams[name].rests(now),
            )
            for name, each in self.all_published.items()
        }
        policy, settings = self.router.snapshot.policy, self.router.snapshot.settings
        told = readiness(
            drain,
            loaded=loaded,
            ledger_blocked=self.books.is_blocked(now),
            backends=facts,
            rungs_of={name: policy.rungs_of(name) for name in settings.models},
        )
        engines = {name: EngineReadiness(each.state, each.why) for name, each in self.all_published.items()}
        return Readiness(told.ready, told.state, engines, told.models)

    def models(self) -> tuple[ModelCard, ...]:
        """The model names that clients may use."""
        cards: list[ModelCard] = []
        for name, model in self.router.snapshot.settings.models.items():
            length, available = self._length_of(name), self._is_available(name)
            cards.append(ModelCard(name, model.description, self.created, length, available=available))
            for adapter in self.router.adapters_of(name):
                cards.append(ModelCard(f"{name}:{adapter}", model.description, self.created, length, name, available))
        return tuple(cards)

    def statistics(self) -> ServiceStatistics:
        """All figures, as they are published now."""
        now, at, counters = trio.current_time(), self.wall(), self.counters
        return ServiceStatistics(
            requests_total=dict(counters.requests),
            refusals_total=dict(counters.refusals),
            escalations_total=dict(counters.escalations),
            fallbacks_total=dict(counters.fallbacks),
            prompt_tokens_total=counters.prompt_tokens,
            completion_tokens_total=counters.completion_tokens,
            reasoning_tokens_total=counters.reasoning_tokens,
            discarded_tokens_total=counters.discarded_tokens,
            overrun_total=counters.overruns,
            in_flight=len(self.running),
            kept=self.kept.statistics(),
            batches=self.batches.statistics(),
            latency=counters.latency(),
            engines={name: published.stats or _NOTHING_YET for name, published in self.engines.items()},
            engine_restarts_total={name: published.restarts for name, published in self.all_published.items()},
            replicas={
                name: tuple(
                    [
                        ReplicaView(each.state, each.restarts, each.stats or _NOTHING_YET, ejected)
                        for each, ejected in zip(
                            all_published, self.backend_queues[name].queue.ejected_total, strict=True
                        )
                    ]
                )
                for name, all_published in self.replicas.items()
            },
            upstreams={name: published.statistics() for name, published in self.upstreams.items()},
            queues={name: backend_queue.statistics(now) for name, backend_queue in self.backend_queues.items()},
            quarantine=self.quarantine.statistics(now),
            breakers={rung: view.state for rung, view in self.breakers.views(now).items()},
            ledger=self.books.statistics(),
            usage=dict(self.books.usage),
            costs=dict(self.books.costs),
            budgets=self.budgets.views(at),
            cascades=self.rollout.cascades(at),
            experiments=self.rollout.experiments(),
            notices_total=dict(counters.notices),
            policy=self.policy.statistics(self.router.snapshot.policy.digest),
            shadows=self.shadows.views(),
            adapters=tuple([view for name in self.replicas for view in self.registry.views(name)]),
            actor_restarts_total=dict(self.tree.restarts),
            backends_down={name: each.down_until is not None for name, each in self.all_published.items()},
            auxiliaries_off=dict(self.tree.off),
        )

    def _is_available(self, model: str) -> bool:
        """Whether a backend that may serve this model is not marked down."""
        rungs = self.router.snapshot.policy.rungs_of(model)
        return not rungs or any(self.all_published[rung].down_until is None for rung in rungs)

    def _length_of(self, model: str) -> int | None:
        """The context length that every backend which may serve this model has; None: unknown."""
        lengths = [self._length_at(name) for name in self.router.snapshot.policy.rungs_of(model)]
        known = [each for each in lengths if each is not None]
        return min(known) if known and len(known) == len(lengths) else None

    def _length_at(self, rung: str) -> int | None:
        """Context length in tokens; None: unknown."""
        if rung in self.upstreams:
            return self.upstreams[rung].context
        limits = self.all_published[rung].limits
        return None if limits is None else limits.max_model_len
