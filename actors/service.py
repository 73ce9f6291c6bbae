"""Wires the actors together. The edge sees this and `ResponseStream`, nothing else."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import structlog
import trio

from actors.admission.admission import Admission
from actors.api.counters import ServiceCounters
from actors.api.engine_status import BackendStatus, EngineStatus, ReplicatedEngineStatus, replica_titles
from actors.api.errors import (
    BadKey,
    EngineLoadFailed,
    Refusal,
    Unavailable,
    ledger_unavailable,
)
from actors.api.request import InferenceRequest
from actors.api.statistics import ReplicaView, ServiceStatistics
from actors.breakers.breakers import BreakerRegistry, Breakers
from actors.breakers.permits import Permits
from actors.control.admin_service import AdminService
from actors.control.policy_reloader import PolicyReloader
from actors.control.policy_status import PolicyStatus
from actors.drain import DrainController
from actors.engines.adapter_registry import AdapterRegistry
from actors.engines.engine_actor import EngineActor
from actors.engines.engine_thread import EngineFactory
from actors.kernel.mailbox import Mailbox
from actors.kernel.supervisor import Child, Supervisor
from actors.kernel.timers import TimerWheel
from actors.ledger.ledger import Ledger, LedgerState
from actors.ledger.lock import ledger_lock
from actors.prompt.model_text import ModelText
from actors.protocol.admission import AdmissionMessage, RestoreUsage
from actors.protocol.breakers import BreakerMessage
from actors.protocol.engine import EngineMessage
from actors.protocol.job import Job
from actors.protocol.ledger import LedgerMessage
from actors.protocol.queue import QueueMessage
from actors.protocol.reloader import Reload
from actors.queue.backend import Backend, ReplicaSlot
from actors.queue.dispatcher import Dispatcher
from actors.readiness import EngineReadiness, ModelCard, Readiness, ServiceState
from actors.recording.recorder import Recorder, Recording
from actors.request.ports import RequestPorts
from actors.request.request_admission import RequestAdmission
from actors.request.request_log import LogIdentity, RequestLog
from actors.request.response_stream import ResponseStream
from actors.request.shadow_port import Copy, ShadowPorts
from actors.routing.policy_snapshot import PolicySnapshot
from actors.routing.router import Router
from actors.shadows.shadows import Shadows
from actors.upstream.client import MakeTransport, UpstreamClient
from actors.upstream.secret import read_secret
from actors.upstream.upstream_actor import UpstreamActor
from actors.upstream.upstream_status import UpstreamStatus
from actors.worker_threads import RealWorkerThreads, WorkerThreads
from config.model.settings import Settings
from config.source import ConfigSource
from config.tenants import queue_lines
from engine.core.messages import EngineStats
from engine.errors import ModelError
from policies.admission.budget import BudgetBook
from policies.admission.quota import QuotaBook
from policies.admission.rate_limits import RateLimits
from policies.fallback.retry_budget import RetryBudget
from policies.queueing.backend_queue import BackendQueue
from policies.queueing.engine_capacity import EngineCapacity
from policies.queueing.fair_queue import FairQueue
from policies.records.decision_log import DecisionLog
from policies.rollout.rollout_state import RolloutState
from policies.rollout.shadow import TIER as SHADOW_TIER
from policies.rollout.shadow import ShadowBook
from policies.routing.policy import rung_breakers

_MAILBOX = 4096
_RELOADS = 16
_COPIES = 256
_NOTHING_YET = EngineStats(0, 0, 0, 0, 0, 0)
log = structlog.get_logger()


class Service:
    """Everything behind the edge."""

    def __init__(
        self,
        settings: Settings,
        engines: Mapping[str, Sequence[EngineFactory]],
        *,
        texts: Mapping[str, ModelText] | None = None,
        workers: WorkerThreads | None = None,
        transport: MakeTransport | None = None,
        source: ConfigSource | None = None,
        watches: bool = False,
        record: Path | None = None,
    ) -> None:
        """`engines`: how each replica of each engine is made.

        `texts`: how each engine reads; None loads it from the engines' model directories.
        `transport`: how upstreams are reached, if not over the network. `source`: what the settings were read from, so
        that they can be read again; `watches`: whenever it changes. `record`: a file for a recording of the traffic.
        Raises EngineLoadFailed if a tokenizer or a chat template cannot be read, and UpstreamKeyMissing.
        """
        self._settings = settings
        elsewhere = [
            title
            for name, each in settings.engines.items()
            if set(each.devices or (each.device,)) != {"cpu"}
            for title in replica_titles(name, each.replicas)
        ]
        self._workers: WorkerThreads = (
            workers if workers is not None else RealWorkerThreads(settings.cores.at_once, elsewhere)
        )
        self._created = int(time.time())
        self._texts = dict(texts if texts is not None else _load_texts(settings))
        for name, upstream in settings.upstreams.items():
            if upstream.tokenizer is not None:
                text = self._texts[name] = self._texts[upstream.tokenizer]
                if text.sizes is not None:
                    raise EngineLoadFailed(f"upstream '{name}': tokenizer: '{upstream.tokenizer}' is an encoder")
        self._upstreams = {
            name: UpstreamStatus(name, upstream.urls, upstream.context, counts=upstream.tokenizer is not None)
            for name, upstream in settings.upstreams.items()
        }
        self._upstream_keys = {name: read_secret(name, each.key) for name, each in settings.upstreams.items()}
        self._transport = transport
        self._replicas = {name: _replica_published(name, each.replicas) for name, each in settings.engines.items()}
        self._engines: dict[str, EngineStatus | ReplicatedEngineStatus] = {
            name: all_published[0] if len(all_published) == 1 else ReplicatedEngineStatus(name, all_published)
            for name, all_published in self._replicas.items()
        }
        self._all_published: dict[str, BackendStatus] = {**self._engines, **self._upstreams}
        make_snapshot = partial(PolicySnapshot.of, tokenizers={name: text.digest for name, text in self._texts.items()})
        snapshot = make_snapshot(settings)
        self._shadow_book = ShadowBook(settings.shadows)
        self._backend_queues = {name: self._backend_queue(name, snapshot) for name in self._all_published}
        self._counters = ServiceCounters()
        self._books = LedgerState()
        self._quota = QuotaBook(snapshot.tenants)
        self._budgets = BudgetBook(snapshot.tenants)
        self._rollout = RolloutState(settings, time.time())
        self._decisions = DecisionLog(settings.admin.decisions, settings.admin.decisions_memory)
        self._responses: dict[ResponseStream, None] = {}
        self._timers = TimerWheel()
        self._breakers = BreakerRegistry(rung_breakers(settings), RetryBudget(settings.retry_budget))
        self._router = Router(snapshot, self._backend_queues, self._breakers, self._rollout)
        self._admission: Mailbox[AdmissionMessage] = Mailbox("admission", _MAILBOX)
        self._dispatch: Mailbox[QueueMessage] = Mailbox("dispatch", _MAILBOX)
        self._breakers_mail: Mailbox[BreakerMessage] = Mailbox("breakers", _MAILBOX)
        self._ledger: Mailbox[LedgerMessage] = Mailbox("ledger", _MAILBOX)
        self._registry = AdapterRegistry(
            settings.engines, {name: self._backend_queues[name].slots for name in settings.engines}, self._workers
        )
        self.request_log = RequestLog(lambda: self._router.snapshot.settings.log.requests, lambda: self.policy)
        self._recording = Recording(record, Mailbox("recorder", _MAILBOX)) if record is not None else None
        self._ports = RequestPorts(
            admission=self._admission,
            dispatch=self._dispatch,
            ledger=self._ledger,
            permits=Permits(self._breakers_mail, self._breakers),
            all_published=self._all_published,
            upstreams=settings.upstreams,
            texts=self._texts,
            timers=self._timers,
            counters=self._counters,
            rollout=self._rollout,
            decisions=self._decisions,
            request_log=self.request_log,
            recording=self._recording,
            numbers=count(1),
        )
        self._shadow_mail: Mailbox[Copy] = Mailbox("shadows", _COPIES)
        self._shadows = Shadows(
            self._shadow_mail, self._shadow_book, self._workers, self._ports, someone_waits=self._someone_waits
        )
        self._request_admission = RequestAdmission(
            self._router,
            self._budgets,
            self._workers,
            self._ports,
            shadows=ShadowPorts(self._shadow_mail, self._shadow_book),
            on_end=self._ended,
        )
        self._policy = PolicyStatus()
        self._reloader: Mailbox[Reload] = Mailbox("policy keeper", _RELOADS)
        self.admin = AdminService(
            router=self._router,
            published=self._policy,
            reloader=self._reloader,
            source=source,
            workers=self._workers,
            rollout=self._rollout,
            decisions=self._decisions,
            shadows=self._shadow_book,
            registry=self._registry,
            ledger=self._ledger,
        )
        """For operators."""
        children = self._children(engines)
        children.append(Child("shadows", lambda: self._shadows, self._shadow_mail))
        if source is not None:
            reloader = partial(
                PolicyReloader,
                self._reloader,
                self._policy,
                source=source,
                snapshot=lambda: self._router.snapshot,
                make_snapshot=make_snapshot,
                apply_settings=self._apply_settings,
                registry=self._registry,
                workers=self._workers,
                watches=watches,
            )
            children.append(Child("policy keeper", reloader, self._reloader))
        self._supervisor = Supervisor(children)
        self._drain = DrainController(self._responses, self._ledger)
        self._was_ready = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Supervise all actors until cancelled. Raises HouseFailed when they cannot be kept alive."""
        with ledger_lock(self._settings.ledger.path):
            await self._supervisor.run(task_status=task_status)

    async def drain(self, deadline: float) -> None:
        """Refuse new work, let running answers end until the deadline, end the others, and settle the ledger.

        A second call may only bring the deadline forward.
        """
        self._shadows.stop()
        await self._drain.run(deadline)

    def readiness(self) -> Readiness:
        """Ready: it serves, it can write down what it serves, and every engine was loaded.

        An engine that has failed since then is the ladder's business.
        """
        engines = {
            name: EngineReadiness(published.state, published.why) for name, published in self._all_published.items()
        }
        state: ServiceState = self._drain.state
        if state == "serving" and self._books.is_blocked(trio.current_time()):
            state = "ledger_blocked"
        return Readiness(state == "serving" and self._is_loaded(), state, engines)

    def models(self) -> tuple[ModelCard, ...]:
        """The names that clients may ask for."""
        cards: list[ModelCard] = []
        for name, model in self._router.snapshot.settings.models.items():
            length = self._length_of(name)
            cards.append(ModelCard(name, model.description, self._created, length))
            for adapter in self._router.adapters_of(name):
                cards.append(ModelCard(f"{name}:{adapter}", model.description, self._created, length, name))
        return tuple(cards)

    def _length_of(self, model: str) -> int | None:
        """What every engine that may answer to this name can hold."""
        lengths = [self._length_at(name) for name in self._router.snapshot.policy.rungs_of(model)]
        known = [each for each in lengths if each is not None]
        return min(known) if known and len(known) == len(lengths) else None

    def _length_at(self, rung: str) -> int | None:
        """Tokens that it holds, as far as that is known."""
        if rung in self._upstreams:
            return self._upstreams[rung].context
        limits = self._all_published[rung].limits
        return None if limits is None else limits.max_model_len

    def statistics(self) -> ServiceStatistics:
        """All figures, as they are published now."""
        now = trio.current_time()
        counters = self._counters
        return ServiceStatistics(
            requests_total=dict(counters.requests),
            refusals_total=dict(counters.refusals),
            escalations_total=dict(counters.escalations),
            fallbacks_total=dict(counters.fallbacks),
            prompt_tokens_total=counters.prompt_tokens,
            completion_tokens_total=counters.completion_tokens,
            discarded_tokens_total=counters.discarded_tokens,
            overrun_total=counters.overruns,
            in_flight=len(self._responses),
            latency=counters.latency(),
            engines={name: published.stats or _NOTHING_YET for name, published in self._engines.items()},
            engine_restarts_total={name: published.restarts for name, published in self._all_published.items()},
            replicas={
                name: tuple(
                    [ReplicaView(each.state, each.restarts, each.stats or _NOTHING_YET) for each in all_published]
                )
                for name, all_published in self._replicas.items()
            },
            upstreams={name: published.statistics() for name, published in self._upstreams.items()},
            queues={name: backend_queue.statistics(now) for name, backend_queue in self._backend_queues.items()},
            breakers={rung: view.state for rung, view in self._breakers.views(now).items()},
            ledger=self._books.statistics(),
            usage=dict(self._books.usage),
            costs=dict(self._books.costs),
            budgets=self._budgets.views(time.time()),
            cascades=self._rollout.cascades(time.time()),
            experiments=self._rollout.experiments(),
            notices_total=dict(counters.notices),
            policy=self._policy.statistics(self.policy),
            shadows=self._shadow_book.views(),
            adapters=tuple([view for name in self._settings.engines for view in self._registry.views(name)]),
        )

    def check_key(self, key: str | None) -> None:
        """Raises BadKey."""
        self._router.snapshot.tenant_of(key)

    def check_scraper(self, key: str | None) -> None:
        """Raises BadKey, and Forbidden for a tenant's key."""
        self._router.snapshot.check_scraper(key)

    def rate_limits(self, key: str | None) -> RateLimits | None:
        """What is left of the limits of whoever has this key; None: it has no limits, or the key is not known."""
        try:
            tenant = self._router.snapshot.tenant_of(key)
        except BadKey:
            return None
        return self._quota.limits(tenant, trio.current_time())

    def known_tenant(self, key: str | None) -> str:
        """Whose key this is; empty if it is nobody's."""
        try:
            return self._router.snapshot.tenant_of(key)
        except BadKey:
            return ""

    def tiers_above(self, key: str | None) -> int:
        """How many tiers come before the key's. Raises BadKey."""
        return self._router.snapshot.tiers_above(key)

    @property
    def keyless(self) -> bool:
        """Nobody needs a key."""
        return not self._router.snapshot.settings.keys

    @property
    def policy(self) -> str:
        """Digest of the one that decides now."""
        return self._router.snapshot.policy.digest

    def _apply_settings(self, snapshot: PolicySnapshot) -> None:
        """Swap the policy between two requests: nothing waits in here, so that nobody sees half of it."""
        settings = snapshot.settings
        # Those who are gone but have work under way, too.
        tenants = self._quota.apply_settings(snapshot.tenants, trio.current_time())
        self._budgets.apply_settings(tenants)
        self._shadow_book.apply_settings(settings.shadows)
        for backend_queue in self._backend_queues.values():
            backend_queue.queue.apply_settings(*self._shadow_book.beside(settings.tiers, queue_lines(tenants)))
        self._breakers.apply_settings(snapshot.policy.breakers, settings.retry_budget)
        self._rollout.apply_settings(settings, time.time())
        self._decisions.apply_settings(settings.admin.decisions, settings.admin.decisions_memory)
        self._router.apply_settings(snapshot)

    async def open(self, request: InferenceRequest) -> ResponseStream:
        """Decide who asks, what may be spent and what will be tried. Raises Refusal; on any error nothing is left."""
        who = LogIdentity()
        try:
            return await self._open(request, who)
        except BaseException as error:
            if isinstance(error, Refusal):
                self._counters.refusals[error.body.code] += 1
            self.request_log.not_let_in(request, who, error)
            raise

    async def _open(self, request: InferenceRequest, who: LogIdentity) -> ResponseStream:
        if self._drain.state != "serving":
            raise Unavailable("shutting_down", "The server is shutting down; try another one.", 1.0)
        if not self._is_loaded():
            raise Unavailable("loading", "The models are being loaded; try again in a moment.", 1.0)
        if self._books.is_blocked(trio.current_time()):
            raise ledger_unavailable()
        response = await self._request_admission.open(request, who)
        self._responses[response] = None
        return response

    def _ended(self, response: ResponseStream) -> None:
        self._responses.pop(response, None)
        self._drain.look()

    def _someone_waits(self, rung: str) -> bool:
        queue = self._backend_queues[rung].queue
        return len(queue) > queue.waiting(SHADOW_TIER)

    def _on_spent(self, spent: RestoreUsage) -> None:
        """What the ledger knows of the time before this process began: nobody is let in before."""
        self._admission.put_unbounded(spent)
        for name, cost in spent.by_cascade.items():
            self._rollout.restore(name, cost)
        rolled_back = self._rollout.restore_roll_backs(spent.roll_backs)
        if spent.by_tenant or spent.used or rolled_back:
            tenants = sorted({*spent.by_tenant, *spent.used})
            log.info("ledger_restored", tenants=len(tenants), rolled_back=list(rolled_back))

    def _is_loaded(self) -> bool:
        if not self._was_ready:
            self._was_ready = self._books.opened and all(
                published.limits is not None for published in self._all_published.values()
            )
        return self._was_ready

    def _backend_queue(self, name: str, snapshot: PolicySnapshot) -> Backend:
        lines = self._shadow_book.beside(self._settings.tiers, queue_lines(snapshot.tenants))
        queue: FairQueue[Job] = FairQueue(*lines)
        upstream = self._settings.upstreams.get(name)
        if upstream is not None:
            published = self._upstreams[name]
            capacity = EngineCapacity(upstream.concurrent, None, ahead=0)
            slot = ReplicaSlot(published, _mailbox(published))
            return Backend(published, BackendQueue(name, queue, [capacity]), [slot])
        engine = self._settings.engines[name]
        block_size: int | None = engine.kv.block_size
        ahead = None
        if self._texts[name].sizes is not None:
            # One step's inputs are computed while the next one's wait in front of it.
            block_size, ahead = None, engine.max_running
        slots = [ReplicaSlot(published, _mailbox(published)) for published in self._replicas[name]]
        capacities = [EngineCapacity(engine.max_running, block_size, ahead) for _ in slots]
        prefixes = engine.kv.block_size if engine.prefix_cache and block_size is not None else None
        return Backend(self._all_published[name], BackendQueue(name, queue, capacities, prefixes), slots)

    def _recorder(self) -> list[Child]:
        recording = self._recording
        if recording is None:
            return []
        return [Child("recorder", partial(Recorder, recording, self._workers), recording.mailbox)]

    def _children(self, factories: Mapping[str, Sequence[EngineFactory]]) -> list[Child]:
        """In start order. The ledger is the first one up and the last one down."""
        settings, workers, timers = self._settings, self._workers, self._timers

        def engine(name: str) -> list[Child]:
            backend_queue = self._backend_queues[name]
            return [
                Child(
                    f"engine {slot.published.title}",
                    partial(
                        EngineActor,
                        slot.mailbox,
                        dispatch=self._dispatch,
                        published=slot.published,
                        factory=factories[name][slot.published.replica],
                        workers=workers,
                        timers=timers,
                        stall_s=float(settings.engines[name].stall),
                        waited_for=partial(bool, backend_queue.queue),
                        adapters=partial(self._registry.wanted, name),
                    ),
                    slot.mailbox,
                    spare=name,
                )
                for slot in backend_queue.slots
            ]

        def client(name: str) -> UpstreamClient:
            upstream = settings.upstreams[name]
            return UpstreamClient(
                key=self._upstream_keys[name],
                key_header=upstream.key_header,
                headers=upstream.headers,
                connect_s=float(upstream.connect),
                keep=upstream.concurrent,
                transport=self._transport() if self._transport is not None else None,
            )

        def upstream(name: str) -> Child:
            (slot,) = self._backend_queues[name].slots
            actor = partial(
                UpstreamActor,
                slot.mailbox,
                dispatch=self._dispatch,
                published=self._upstreams[name],
                settings=settings.upstreams[name],
                client=partial(client, name),
            )
            return Child(f"upstream {name}", actor, slot.mailbox)

        return [
            Child(
                "ledger",
                partial(
                    Ledger,
                    self._ledger,
                    self._books,
                    settings.ledger.path,
                    workers=workers,
                    timers=timers,
                    on_spent=self._on_spent,
                ),
                self._ledger,
            ),
            *self._recorder(),
            Child("deadlines", lambda: timers),
            Child("admission", partial(Admission, self._admission, self._quota, self._budgets), self._admission),
            Child("breakers", partial(Breakers, self._breakers_mail, self._breakers), self._breakers_mail),
            *(child for name in settings.engines for child in engine(name)),
            *(upstream(name) for name in settings.upstreams),
            Child("dispatch", partial(Dispatcher, self._dispatch, self._backend_queues, timers), self._dispatch),
        ]


def _replica_published(name: str, replicas: int) -> list[EngineStatus]:
    return [EngineStatus(name, number, title) for number, title in enumerate(replica_titles(name, replicas))]


def _mailbox(published: EngineStatus) -> Mailbox[EngineMessage]:
    return Mailbox(f"rung {published.title}", _MAILBOX)


def _load_texts(settings: Settings) -> dict[str, ModelText]:
    texts = {}
    for name, engine in settings.engines.items():
        try:
            text = texts[name] = ModelText.load(engine.model, engine.max_model_len)
            if text.sizes is None:
                text.grammars.prepare()
        except ModelError as error:
            raise EngineLoadFailed(f"engine '{name}' cannot be loaded: {error.message}") from error
    return texts
