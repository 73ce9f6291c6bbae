"""Creates and connects the actors. The gateway uses this and `ResponseStream` only.

Actors own shared state; a request is a task of its connection, and takes no part in supervision.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path

import structlog
import trio

from actors.api.engine_status import BackendStatus, EngineStatus, ReplicatedEngineStatus, replica_titles
from actors.api.errors import (
    SHUTTING_DOWN,
    EngineLoadFailed,
    Refusal,
    Unavailable,
    UnknownModel,
    ledger_unavailable,
)
from actors.api.request import InferenceRequest
from actors.api.statistics import ServiceCounters, ServiceStatistics
from actors.batches.batch_store import BatchStore
from actors.batches.batches import Batches
from actors.batches.file_rows import FileLimits
from actors.batches.ports import BatchPorts
from actors.batches.stored_batches import StoredBatches
from actors.breakers.breakers import BreakerMessage, BreakerRegistry, Permits
from actors.control.admin_service import AdminService
from actors.control.breaker_control import BreakerControl
from actors.control.key_control import KeyControl
from actors.control.policy_reloader import PolicyStatus, ReloaderMessage
from actors.drain import DrainController
from actors.engines.adapter_registry import AdapterRegistry
from actors.engines.engine_thread import EngineSource
from actors.kept.kept_answers import KeptAnswers
from actors.kernel.actor import Mailbox, Reply
from actors.kernel.clock import WallClock, loop_clock, system_time
from actors.kernel.errors import ActorDied, RestartsExhausted, ServiceFailed, ServiceStalled
from actors.kernel.supervisor import Child
from actors.kernel.thread_bridge import stacks
from actors.kernel.timers import TimerWheel
from actors.ledger.ledger import LedgerState, ledger_lock
from actors.prompt.model_text import ModelText
from actors.protocol.admission import AdmissionMessage, RestoreUsage
from actors.protocol.job import EngineMessage, Enqueue, Job, QueueMessage, Withdraw
from actors.protocol.ledger import CloseEntry, Delivered, Flush, LedgerMessage, OpenEntry, refused_closing
from actors.queue.dispatcher import Backend, ReplicaSlot
from actors.recording.recorder import Recording
from actors.request.guardrails import Guardrails, applying
from actors.request.ports import RequestPorts
from actors.request.request_admission import RequestAdmission
from actors.request.request_log import LogIdentity, RequestLog
from actors.request.response_stream import ResponseStream
from actors.request.shadow_port import Copy, ShadowPorts
from actors.request.text_judge import TextJudge
from actors.request.tokenization import Tokenization, Tokenized
from actors.routing.clients import Clients
from actors.routing.router import PolicySnapshot, Router
from actors.service_view import ModelCard, Readiness, ServiceView
from actors.shadows.shadows import CopiesUnderWay
from actors.stored.response_store import ResponseStore
from actors.stored.stored_responses import StoredResponses
from actors.supervision_tree import ActorTypes, BackendReplica, TreeStatus, auxiliary, backend, service_tree
from actors.upstream.client import UpstreamClient
from actors.upstream.hedging import Hedging
from actors.upstream.http.pool import Connect
from actors.upstream.secret import read_secret
from actors.upstream.upstream_status import UpstreamStatus
from actors.worker_threads import RealWorkerThreads, WorkerThreads
from config.model.judging import ModerationSettings
from config.model.settings import Settings
from config.source import ConfigSource
from config.tenants import tenant_queues
from engine.errors import ModelError
from policies.admission.budget import BudgetBook
from policies.admission.quota import QuotaBook, RateLimits
from policies.batching.batch_tier import batch_queues
from policies.fallback.retry_budget import RetryBudget
from policies.queueing.backend_queue import BackendQueue
from policies.queueing.fair_queue import FairQueue
from policies.queueing.placement import EngineCapacity
from policies.queueing.quarantine import Quarantine
from policies.records.decision_log import DecisionLog
from policies.rollout.rollout_state import RolloutState
from policies.rollout.shadow import TIER as SHADOW_TIER
from policies.rollout.shadow import ShadowBook
from policies.routing.policy import rung_breakers

_MAILBOX = 4096
_RELOADS = 16
_COPIES = 256
log = structlog.get_logger()


class Service:
    """Everything behind the HTTP server."""

    def __init__(
        self,
        settings: Settings,
        engines: Mapping[str, Sequence[EngineSource]],
        *,
        texts: Mapping[str, ModelText] | None = None,
        workers: WorkerThreads | None = None,
        network: Connect | None = None,
        source: ConfigSource | None = None,
        watches: bool = False,
        record: Path | None = None,
        wall: WallClock = system_time,
        actor_types: ActorTypes = ActorTypes(),  # noqa: B008  (frozen)
        inherited_lock: int | None = None,
        wait_for_ledger: Callable[[], bool] | None = None,
    ) -> None:
        """`engines`: what makes each engine's replicas.

        `texts`: tokenizers and templates by engine; None loads them from the engines' model directories.
        `network`: connects to upstreams instead of TCP. `source`: where the settings were read from, for reloads;
        `watches`: reload whenever it changes. `record`: a file for a recording of the traffic.
        `wall`: the clock of budgets, experiments and the ledger. `inherited_lock`, `wait_for_ledger`: of a process that
        hands over to this one: see `ledger_lock` and `RealWorkerThreads`.
        Raises EngineLoadFailed if a tokenizer or a chat template cannot be read, and UpstreamKeyMissing.
        """
        self._settings = settings
        self.wall = wall
        self._types = actor_types
        off_cpu = [
            title
            for name, each in settings.engines.items()
            if set(each.devices or (each.device,)) != {"cpu"}
            for title in replica_titles(name, each.replicas)
        ]
        self._workers: WorkerThreads = (
            workers
            if workers is not None
            else RealWorkerThreads(
                settings.cores.at_once,
                off_cpu,
                wall=wall,
                kept_file=settings.server.kept_file,
                open_responses=partial(
                    ResponseStore,
                    settings.server.responses_file,
                    most_bytes=settings.server.responses_memory,
                    keep_s=settings.server.keep_responses,
                    wall=wall,
                ),
                open_batches=partial(
                    BatchStore,
                    settings.batch.file,
                    FileLimits(settings.batch.storage, settings.batch.storage_per_tenant, float(settings.batch.keep)),
                    wall,
                ),
                wait_for_ledger=wait_for_ledger,
            )
        )
        self._inherited_lock = inherited_lock
        self.ledger_lock: int | None = None
        """The open file of the ledger's lock, while the service runs."""
        self._texts = dict(texts if texts is not None else _load_texts(settings))
        for name, upstream in settings.upstreams.items():
            if upstream.tokenizer is not None:
                text = self._texts[name] = self._texts[upstream.tokenizer]
                if text.sizes is not None:
                    raise EngineLoadFailed(f"upstream '{name}': tokenizer: '{upstream.tokenizer}' is an encoder")
        retry_budget = RetryBudget(
            settings.retry_budget,
            active=lambda: len(self._responses),
            hedges=lambda: sum([each.hedges for each in self._upstreams.values()]),
        )
        self._upstreams = {
            name: UpstreamStatus(
                name,
                upstream.urls,
                upstream.context,
                counts=upstream.tokenizer is not None,
                hedging=None
                if (hedge := upstream.hedge) is None
                else Hedging(hedge.percentile, hedge.share, has_room=retry_budget.has_room),
            )
            for name, upstream in settings.upstreams.items()
        }
        self._upstream_keys = {name: read_secret(name, each.key) for name, each in settings.upstreams.items()}
        self._network = network
        self._replicas = {name: _replica_published(name, each.replicas) for name, each in settings.engines.items()}
        self._engines: dict[str, EngineStatus | ReplicatedEngineStatus] = {
            name: all_published[0] if len(all_published) == 1 else ReplicatedEngineStatus(name, all_published)
            for name, all_published in self._replicas.items()
        }
        self._all_published: dict[str, BackendStatus] = {**self._engines, **self._upstreams}
        make_snapshot = partial(PolicySnapshot.of, tokenizers={name: text.digest for name, text in self._texts.items()})
        snapshot = make_snapshot(settings)
        self._shadow_book = ShadowBook(settings.shadows)
        self._quarantine = Quarantine(settings.quarantine)
        self._backend_queues = {name: self._backend_queue(name, snapshot) for name in self._all_published}
        self._counters = ServiceCounters()
        self._books = LedgerState(settings.ledger)
        self._quota = QuotaBook(snapshot.tenants)
        self._budgets = BudgetBook(snapshot.tenants)
        self._rollout = RolloutState(settings, wall())
        self._decisions = DecisionLog(settings.admin.decisions, settings.admin.decisions_memory)
        self._responses: dict[ResponseStream, None] = {}
        self._by_entry: dict[int | None, ResponseStream] = {}
        self._timers = TimerWheel()
        self._breakers = BreakerRegistry(rung_breakers(settings), retry_budget, self._all_published)
        self._router = Router(snapshot, self._backend_queues, self._breakers, self._rollout, wall)
        self.clients = Clients(self._router, self._quota, wall)
        self._restored: set[str] = set()
        self._admission: Mailbox[AdmissionMessage] = Mailbox("admission", _MAILBOX)
        self._dispatch: Mailbox[QueueMessage] = Mailbox("dispatch", _MAILBOX, self._job_lost)
        self._breakers_mail: Mailbox[BreakerMessage] = Mailbox("breakers", _MAILBOX)
        self._ledger: Mailbox[LedgerMessage] = Mailbox("ledger", _MAILBOX, self._entry_lost)
        self._registry = AdapterRegistry(
            settings.engines, {name: self._backend_queues[name].slots for name in settings.engines}, self._workers
        )
        self.request_log = RequestLog(lambda: self._router.snapshot.settings.log.requests, lambda: self.policy)
        self._recording = Recording(record, Mailbox("recorder", _MAILBOX), wall()) if record is not None else None
        self._ports = RequestPorts(
            admission=self._admission,
            dispatch=self._dispatch,
            ledger=self._ledger,
            permits=Permits(self._breakers_mail, self._breakers),
            quarantine=self._quarantine,
            queues={name: backend.queue for name, backend in self._backend_queues.items()},
            all_published=self._all_published,
            upstreams=settings.upstreams,
            texts=self._texts,
            timers=self._timers,
            counters=self._counters,
            rollout=self._rollout,
            decisions=self._decisions,
            request_log=self.request_log,
            wall=wall,
            clock=loop_clock(),
            recording=self._recording,
            judge=TextJudge(self.open, self.labels, self.decision_temperature),
            numbers=count(1),
        )
        self._copies = CopiesUnderWay(self._shadow_book)
        self._shadow_mail: Mailbox[Copy] = Mailbox("shadows", _COPIES, self._copies.lost)
        self._request_admission = RequestAdmission(
            self._router,
            self._budgets,
            self._workers,
            self._ports,
            shadows=ShadowPorts(self._shadow_mail, self._shadow_book),
            on_end=self._ended,
        )
        self._guardrails = Guardrails(self._ports.judge)
        self._tokenization = Tokenization(self._router, self._workers, self._ports)
        self._policy = PolicyStatus(wall())
        self._reloader: Mailbox[ReloaderMessage] = Mailbox("policy reloader", _RELOADS)
        server = settings.server
        self.kept = KeptAnswers(
            self.open,
            keep_s=server.keep_answers,
            memory_bytes=server.kept_memory,
            background_s=server.keep_background,
            background_most=server.background_answers,
            threads=self._workers if server.kept_file is not None else None,
            may_open=lambda: self._books.opened,
            serves=self._is_loaded,
            wall=wall,
        )
        self.stored = StoredResponses(self._workers, keeps=bool(server.keep_responses))
        self.batches = Batches(
            StoredBatches(self._workers),
            settings.batch,
            BatchPorts(
                open=self.open,
                serves=self._is_loaded,
                limits=self._batch_limits,
                model_fault=self._model_fault,
                run_in_thread=self._workers.run_in_thread,
                wall=wall,
            ),
        )
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
            breakers=BreakerControl(self._breakers_mail, self._breakers),
            keys=KeyControl(self._router, self._reloader, self._workers, wall),
            wall=wall,
        )
        """For operators."""
        self._tree = TreeStatus()
        auxiliaries = self._auxiliaries()
        if source is not None:
            reloader = partial(
                self._types.policy_reloader,
                self._reloader,
                self._policy,
                source=source,
                snapshot=lambda: self._router.snapshot,
                make_snapshot=make_snapshot,
                apply_settings=self._apply_settings,
                registry=self._registry,
                workers=self._workers,
                watches=watches,
                wall=wall,
            )
            auxiliaries.append(auxiliary(Child("policy reloader", reloader, self._reloader), self._tree))
        self._supervisor = service_tree(self._tree, self._core(), self._backends(engines), auxiliaries)
        self._drain = DrainController(self._responses, self._ledger)
        self._loaded_once = False
        self._view = ServiceView(
            router=self._router,
            all_published=self._all_published,
            engines=self._engines,
            replicas=self._replicas,
            upstreams=self._upstreams,
            backend_queues=self._backend_queues,
            breakers=self._breakers,
            quarantine=self._quarantine,
            counters=self._counters,
            books=self._books,
            budgets=self._budgets,
            rollout=self._rollout,
            policy=self._policy,
            shadows=self._shadow_book,
            registry=self._registry,
            tree=self._tree,
            running=self._responses,
            kept=self.kept,
            batches=self.batches,
            wall=wall,
            created=int(wall()),
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Supervise all actors until cancelled. Raises ServiceFailed when the core cannot be kept alive."""
        with ledger_lock(self._settings.ledger.path, self._inherited_lock) as self.ledger_lock:
            try:
                await self._supervisor.run(task_status=task_status)
            except RestartsExhausted as error:
                raise ServiceFailed(str(error)) from error

    async def drain(self, deadline: float) -> None:
        """Refuse new work, let running answers end until the deadline, end the others, and settle the ledger.

        A second call may only bring the deadline forward.
        """
        self._copies.stop()
        self.batches.stop()
        await self._drain.run(deadline)

    async def write_ledger(self, within_s: float) -> None:
        """Return when all that has ended is written, or when the time is over."""
        written: Reply[None] = Reply()
        self._ledger.put_unbounded(Flush(written))
        with trio.move_on_after(within_s), suppress(ActorDied):
            await written.wait()

    @property
    def models_loaded(self) -> bool:
        """Every engine and upstream can serve; the ledger may not be open yet."""
        return all(published.limits is not None for published in self._all_published.values())

    def readiness(self) -> Readiness:
        """Of the service and of each model. A failed backend does not matter to a model that another one may answer."""
        return self._view.readiness(self._drain.state, loaded=self._is_loaded())

    def check_progress(self) -> None:
        """Raises ServiceStalled if the ledger's thread does not return from a commit."""
        deadline_s = float(self._settings.watchdog.ledger)
        if deadline_s and self._books.hangs_for_s(trio.current_time()) > deadline_s:
            log.critical("no_progress", what="ledger", deadline_s=deadline_s, stacks=stacks())
            raise ServiceStalled(
                f"the ledger finished no commit for {deadline_s:g} s: look at the disk of {self._settings.ledger.path}"
            )

    def models(self, key: str | None = None) -> tuple[ModelCard, ...]:
        """The model names that this key may ask for. Raises BadKey."""
        grant = self.clients.grant_of(key)
        return tuple([card for card in self._view.models() if grant.permits_model(card.id)])

    def statistics(self) -> ServiceStatistics:
        """All figures, as they are published now."""
        return self._view.statistics()

    @property
    def policy(self) -> str:
        """Digest of the policy in force."""
        return self._router.snapshot.policy.digest

    def _apply_settings(self, snapshot: PolicySnapshot) -> None:
        """Give every owner the settings of another policy, in the policy reloader's task.

        This writes state that actors own. That is safe because neither it nor anything that it calls awaits: no actor
        handles a message meanwhile, and no task sees a mixture of two policies. ADR 10 has the reasons, and
        tests/test_rules.py checks it.
        """
        settings = snapshot.settings
        # Including removed tenants that still have requests.
        tenants = self._quota.apply_settings(snapshot.tenants, trio.current_time())
        self._budgets.apply_settings(tenants)
        self._shadow_book.apply_settings(settings.shadows)
        for backend_queue in self._backend_queues.values():
            backend_queue.queue.apply_settings(
                *self._shadow_book.with_copies(settings.tiers, tenant_queues(tenants)),
                best_effort=batch_queues(settings.tiers, tenants),
            )
        self._quarantine.apply_settings(settings.quarantine)
        self._breakers.apply_settings(snapshot.policy.breakers, settings.retry_budget)
        self._rollout.apply_settings(settings, self.wall())
        self._decisions.apply_settings(settings.admin.decisions, settings.admin.decisions_memory)
        self._registry.apply_settings(settings.engines)
        self._router.apply_settings(snapshot)

    async def open(self, request: InferenceRequest) -> ResponseStream:
        """Authenticate, plan and reserve. Raises Refusal; on any error nothing stays reserved."""
        who = LogIdentity()
        try:
            self._check_open(request)
            await self._guard(request, who)
            response = await self._request_admission.open(request, who)
        except BaseException as error:
            self._not_let_in(request, who, error)
            raise
        if reading := applying(self._router.snapshot.settings.guardrails, request, "answer"):
            check = partial(self._guardrails.check_answer, reading, request)
            response.guard(check, held=any(each.action == "refuse" for _, each in reading))
        self._responses[response] = None
        self._by_entry[response.entry_id] = response
        return response

    def _check_open(self, request: InferenceRequest) -> None:
        # The service's own belong to requests that were let in; after the cut no answer waits for them.
        if not request.of_service or self._drain.state not in {"serving", "draining"}:
            self._check_serving()
        if self._books.is_blocked(self._ports.clock()):
            raise ledger_unavailable()

    async def _guard(self, request: InferenceRequest, who: LogIdentity) -> None:
        """Raises Refusal: a guardrail refuses the request."""
        wanted = applying(self._router.snapshot.settings.guardrails, request, "request")
        if wanted:
            self._request_admission.check(request, who)
        for name, each in wanted:
            await self._guardrails.check_request(name, each, request)

    async def count_tokens(self, request: InferenceRequest) -> int:
        """Prompt tokens for the rung that would be tried first, of those whose tokenizer is known. Raises Refusal.

        Nothing is reserved, charged or written into the ledger.
        """
        with self._refusals(request) as who:
            self._check_serving()
            tokens = await self._request_admission.count_tokens(request, who)
        self.request_log.counted(request, who)
        return tokens

    async def tokenize(self, request: InferenceRequest) -> Tokenized:
        """The prompt's tokens for its model. Raises Refusal; nothing is reserved, charged or written down."""
        with self._refusals(request) as who:
            self._check_serving()
            return await self._tokenization.tokenize(request, who)

    async def detokenize(self, request: InferenceRequest) -> str:
        """The text of the prompt's tokens; see `tokenize`."""
        with self._refusals(request) as who:
            self._check_serving()
            return await self._tokenization.detokenize(request, who)

    def reads_pairs(self, model: str) -> bool:
        """Whether a classifier may answer for this model, which compares two texts itself."""
        texts = [self._texts.get(rung) for rung in self._router.snapshot.policy.rungs_of(model)]
        return any(text is not None and text.sizes is not None and text.sizes.labels for text in texts)

    @property
    def moderations(self) -> Mapping[str, ModerationSettings]:
        """What answers `/v1/moderations`, by the names that clients write, in the order of the configuration."""
        return self._router.snapshot.settings.moderations

    def decision_temperature(self, rung: str) -> float | None:
        """The calibration of a rung's decisions; None: it has none."""
        found = self._router.snapshot.settings.decisions.get(rung)
        return None if found is None else found.temperature

    def labels_of(self, model: str) -> tuple[str, ...]:
        """The labels of the first classifier that may answer for this model; (): none does."""
        rungs = self._router.snapshot.policy.rungs_of(model)
        return next((found for rung in rungs if rung in self._texts and (found := self.labels(rung))), ())

    def labels(self, rung: str) -> tuple[str, ...]:
        """What a classifier's scores are of."""
        sizes = self._texts[rung].sizes
        return () if sizes is None else sizes.labels

    @contextmanager
    def _refusals(self, request: InferenceRequest) -> Iterator[LogIdentity]:
        """Counts and logs a request that is not let in. What is yielded is filled in for that."""
        who = LogIdentity()
        try:
            yield who
        except BaseException as error:
            self._not_let_in(request, who, error)
            raise

    def _not_let_in(self, request: InferenceRequest, who: LogIdentity, error: BaseException) -> None:
        if isinstance(error, Refusal):
            self._counters.refusals[error.body.code] += 1
        self.request_log.not_let_in(request, who, error)

    def _check_serving(self) -> None:
        if self._drain.state != "serving":
            raise Unavailable(SHUTTING_DOWN, "The server is shutting down; try another one.", 1.0)
        if not self._is_loaded():
            raise Unavailable("loading", "The models are being loaded; try again in a moment.", 1.0)

    def _ended(self, response: ResponseStream) -> None:
        self._responses.pop(response, None)
        self._by_entry.pop(response.entry_id, None)
        self._drain.look()

    def _batch_limits(self, tenant: str) -> tuple[RateLimits | None, int | None]:
        settings = self._router.snapshot.tenants.get(tenant)
        concurrent = None if settings is None else settings.concurrent
        return self._quota.limits(tenant, trio.current_time()), concurrent

    def _model_fault(self, model: str) -> str:
        try:
            self._router.find_model(model)
        except UnknownModel as unknown:
            return unknown.body.message
        return ""

    def _someone_waits(self, rung: str) -> bool:
        queue = self._backend_queues[rung].queue
        return len(queue) > queue.waiting(SHADOW_TIER)

    def _delivered(self, entry_id: int) -> Delivered | None:
        response = self._by_entry.get(entry_id)
        return None if response is None else response.sent()

    def _on_spent(self, spent: RestoreUsage) -> None:
        """Restore the usage from before this process started; no request is admitted before that."""
        self._admission.put_unbounded(spent)
        for name, cost in spent.by_cascade.items():
            self._rollout.restore(name, cost)
        rolled_back = self._rollout.restore_roll_backs(spent.roll_backs)
        if spent.by_tenant or spent.used or rolled_back:
            tenants = sorted({*spent.by_tenant, *spent.used})
            log.info("ledger_restored", tenants=len(tenants), rolled_back=list(rolled_back))

    def _is_loaded(self) -> bool:
        if not self._loaded_once:
            self._loaded_once = self._books.opened and self.models_loaded
        return self._loaded_once

    def _backend_queue(self, name: str, snapshot: PolicySnapshot) -> Backend:
        tiers_and_tenants = self._shadow_book.with_copies(self._settings.tiers, tenant_queues(snapshot.tenants))
        queue: FairQueue[Job] = FairQueue(*tiers_and_tenants)
        best_effort: FairQueue[Job] = FairQueue(*batch_queues(self._settings.tiers, snapshot.tenants))
        upstream = self._settings.upstreams.get(name)
        if upstream is not None:
            published = self._upstreams[name]
            capacity = EngineCapacity(upstream.concurrent, None, ahead=0, gives_way=False)
            slot = ReplicaSlot(published, _mailbox(published))
            return Backend(published, BackendQueue(name, queue, [capacity], best_effort=best_effort), [slot])
        engine = self._settings.engines[name]
        block_size: int | None = engine.kv.block_size
        ahead = None
        if self._texts[name].sizes is not None:
            # The next step's inputs wait in the engine while one step is computed.
            block_size, ahead = None, engine.max_running
        slots = [ReplicaSlot(published, _mailbox(published)) for published in self._replicas[name]]
        capacities = [EngineCapacity(engine.max_running, block_size, ahead) for _ in slots]
        prefixes = engine.kv.block_size if engine.prefix_cache and block_size is not None else None
        backend_queue = BackendQueue(name, queue, capacities, prefixes, self._quarantine, best_effort)
        return Backend(self._all_published[name], backend_queue, slots)

    def _job_lost(self, message: QueueMessage) -> None:
        """The dispatcher died while it handled this: the request has failed, so the job must not run."""
        if isinstance(message, Enqueue):
            self._dispatch.put_unbounded(Withdraw(message.job))

    def _entry_lost(self, message: LedgerMessage) -> None:
        """The ledger died twice while it handled this: the request was refused, so a row of it is closed."""
        if isinstance(message, OpenEntry):
            self._ledger.put_unbounded(CloseEntry(refused_closing(message.entry)))

    def _core(self) -> list[Child]:
        """In start order. The ledger starts first and stops last."""
        types, timers = self._types, self._timers
        ledger = partial(
            types.ledger,
            self._ledger,
            self._books,
            self._settings.ledger.path,
            workers=self._workers,
            timers=timers,
            on_spent=self._on_spent,
            delivered=self._delivered,
        )
        admission = partial(
            types.admission, self._admission, self._quota, self._budgets, restored=self._restored, wall=self.wall
        )
        return [
            Child("ledger", ledger, self._ledger),
            Child("timers", partial(types.timers, timers)),
            Child("admission", admission, self._admission),
            Child("breakers", partial(types.breakers, self._breakers_mail, self._breakers), self._breakers_mail),
            Child("dispatch", partial(types.dispatcher, self._dispatch, self._backend_queues, timers), self._dispatch),
        ]

    def _backends(self, sources: Mapping[str, Sequence[EngineSource]]) -> list[Child]:
        settings, common = self._settings, (self._tree, self._dispatch)
        return [
            *(backend(name, self._replicas_of(name, sources[name]), *common) for name in settings.engines),
            *(backend(name, [self._upstream(name)], *common) for name in settings.upstreams),
        ]

    def _replicas_of(self, name: str, sources: Sequence[EngineSource]) -> list[BackendReplica]:
        backend_queue = self._backend_queues[name]
        replicas = []
        for slot in backend_queue.slots:
            actor = partial(
                self._types.engine,
                slot.mailbox,
                dispatch=self._dispatch,
                published=slot.published,
                source=sources[slot.published.replica],
                workers=self._workers,
                timers=self._timers,
                stall_s=float(self._settings.engines[name].stall),
                load_stall_s=float(self._settings.engines[name].load_stall),
                jobs_wait=partial(_anything_waits, backend_queue),
                adapters=partial(self._registry.wanted, name),
            )
            child = Child(f"engine {slot.published.title}", actor, slot.mailbox)
            replicas.append(BackendReplica(child, slot.published, slot.mailbox))
        return replicas

    def _upstream(self, name: str) -> BackendReplica:
        backend_queue = self._backend_queues[name]
        (slot,) = backend_queue.slots
        published, settings = self._upstreams[name], self._settings.upstreams[name]

        def client() -> UpstreamClient:
            return UpstreamClient(
                key=self._upstream_keys[name],
                key_header=settings.key_header,
                headers=settings.headers,
                connect_s=float(settings.connect),
                keep=settings.concurrent,
                network=self._network,
                wall=self.wall,
            )

        actor = partial(
            self._types.upstream,
            slot.mailbox,
            dispatch=self._dispatch,
            published=published,
            settings=settings,
            client=client,
            jobs_wait=partial(_anything_waits, backend_queue),
        )
        return BackendReplica(Child(f"upstream {name}", actor, slot.mailbox), published, slot.mailbox)

    def _auxiliaries(self) -> list[Child]:
        children = []
        if self._recording is not None:
            recorder = partial(self._types.recorder, self._recording, self._workers)
            children.append(auxiliary(Child("recorder", recorder, self._recording.mailbox), self._tree))
        shadows = partial(self._types.shadows, self._shadow_mail, self._copies, self._ports, self._someone_waits)
        children.append(auxiliary(Child("shadows", shadows, self._shadow_mail), self._tree, self._copies.stop))
        children.append(auxiliary(Child("kept answers", lambda: self.kept), self._tree))
        children.append(auxiliary(Child("batches", lambda: self.batches), self._tree))
        if self.stored.keeps:
            children.append(auxiliary(Child("stored responses", lambda: self.stored), self._tree))
        return children


def _replica_published(name: str, replicas: int) -> list[EngineStatus]:
    return [EngineStatus(name, number, title) for number, title in enumerate(replica_titles(name, replicas))]


def _mailbox(published: EngineStatus) -> Mailbox[EngineMessage]:
    return Mailbox(f"rung {published.title}", _MAILBOX)


def _anything_waits(backend_queue: Backend) -> bool:
    return backend_queue.queue.anything_waits


def _load_texts(settings: Settings) -> dict[str, ModelText]:
    texts = {}
    for name, engine in settings.engines.items():
        try:
            text = texts[name] = ModelText.load(
                engine.model, engine.max_model_len, engine.reasoning, engine.reasoning_markers, engine.rerank
            )
            if text.sizes is None:
                text.grammars.prepare()
        except ModelError as error:
            raise EngineLoadFailed(f"engine '{name}' cannot be loaded: {error.message}") from error
    return texts
