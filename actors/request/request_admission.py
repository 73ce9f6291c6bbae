"""Admits a request: authenticates it, plans it, and reserves what it may use."""

import math
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from actors.admission.admission import budget_spent, over_quota
from actors.api.errors import (
    TOO_BUSY,
    Forbidden,
    InvalidRequest,
    Refusal,
    RequestQuarantined,
    Unavailable,
    refusal_of,
)
from actors.api.request import InferenceRequest, RequestContent
from actors.api.statistics import RequestKey
from actors.kernel.actor import Reply
from actors.kernel.errors import ActorDied, MailboxFull
from actors.kernel.thread_bridge import WorkerPool
from actors.prompt.request_text import RequestText
from actors.protocol.admission import Reserve, Settle, WouldFit
from actors.protocol.job import RefusedEarly
from actors.protocol.ledger import LedgerEntry, OpenEntry
from actors.recording.recorder import RecordedRequest
from actors.request.account import Account, count_request
from actors.request.media_bounds import media_tokens
from actors.request.ports import RequestPorts
from actors.request.request_log import LogIdentity, total_timings
from actors.request.response_stream import ResponseStream
from actors.request.shadow_port import CopiedRequest, ShadowPorts
from actors.routing.features import features_of
from actors.routing.key_check import check_body
from actors.routing.router import PolicySnapshot, Router
from engine.core.limits import EngineLimits
from engine.model.vector_model import vector_identity
from engine.text.tokenizer import LONG_CHARACTERS
from policies.admission.budget import BudgetBook, BudgetRefusal, BudgetView, Grant
from policies.admission.keys import KeyGrant
from policies.admission.quota import QuotaRefusal
from policies.answer.early_refusal import EarlyRefusal, early_refusal
from policies.batching.batch_tier import TIER as BATCH_TIER
from policies.batching.patient_plan import patient
from policies.model.backends import Backends, EmbeddingModel
from policies.model.features import Features
from policies.model.plan import degraded_codes
from policies.queueing.queue_item import QueueItem
from policies.queueing.turn_queue import WorkFor
from policies.records.decision_log import DecisionEnd, LoggedDecision
from policies.routing.planner import Planned, PlanningSnapshot, PlanRefusal, SizesNeeded, decide
from policies.routing.token_budget import PromptSizes

_MAX_USER = 128
"""Characters of a user's name that the ledger keeps."""


class RequestAdmission:
    """Runs in the task that opens the response; owns no state but what it has made for the requests before."""

    def __init__(
        self,
        router: Router,
        budgets: BudgetBook,
        workers: WorkerPool,
        ports: RequestPorts,
        *,
        shadows: ShadowPorts,
        on_end: Callable[[ResponseStream], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`budgets` is admission's, which alone writes it. `chance`: numbers in 0..1, which spread retries."""
        self._router = router
        self._budgets = budgets
        self._texts = ports.texts
        engines = router.snapshot.settings.engines
        self._encoders = {
            name: EmbeddingModel(
                vector_identity(engines[name]), text.sizes.whole, text.sizes.shorter, len(text.sizes.labels)
            )
            for name, text in self._texts.items()
            if text.sizes is not None
        }
        self._knows_effort = any(text.knows_effort for text in self._texts.values())
        self._texts_for = {
            embeds: {name: text for name, text in self._texts.items() if (name in self._encoders) == embeds}
            for embeds in (False, True)
        }
        self._planning_made: PlanningSnapshot | None = None
        self._limits: list[EngineLimits | None] = []
        """Of the backends, when that was made."""
        self._workers = workers
        self._ports = ports
        self._shadows = shadows
        self._on_end = on_end
        self._chance = chance

    async def open(self, request: InferenceRequest, who: LogIdentity) -> ResponseStream:
        """Authenticate, plan and reserve. Raises Refusal; on any error nothing stays reserved.

        `who` is filled in on the way, for the log of a request that is refused.
        """
        snapshot = self._router.snapshot
        granted = _granted(request, snapshot, self._ports.wall())
        tenant = who.tenant = granted.tenant
        request = self._named(request, granted)
        quarantine = self._ports.quarantine
        if quarantine and quarantine.holds(RequestContent(request).digest, self._ports.clock()):
            raise RequestQuarantined(quarantine.message)
        text = self._text(request, snapshot, tenant)
        spent = await self._spent(request, tenant, text)
        early = None if spent is not None else self._early(request, snapshot, tenant, text)
        decided: Planned | PlanRefusal | None = None
        if early is not None:
            decided = early[0]
            features = decided.features
        else:
            lengths = text.estimated() if spent is not None else await self._lengths(request, text)
            features = self._features(request, snapshot, tenant, lengths)
        wanted, budget = features, None
        try:
            if spent is not None:
                raise over_quota(spent)
            if early is not None:
                raise self._refused_early(request, *early, who)
            while True:
                decided = await self._decide(request, snapshot, text, wanted, budget)
                if isinstance(decided, PlanRefusal):
                    raise _refusal_of(decided)
                if request.batch is not None:
                    plan = patient(decided.plan, request.arrived_at)
                    decided = msgspec.structs.replace(decided, plan=plan)
                who.route = decided.plan.route
                if self._texts:
                    first = next(iter(decided.plan.backends), "")
                    if first in self._texts and first not in self._ports.upstreams:
                        await text.constraints(first)
                grant = await self._reserve(decided, limited=not request.about_answer)
                if isinstance(grant, Grant):
                    break
                if wanted.budget_spent:
                    raise budget_spent(grant)
                # Only the admission actor decides about money: what was read before may be outdated when it reserves.
                wanted, budget = msgspec.structs.replace(features, budget_spent=True), grant.view
        except Refusal as refusal:
            end = DecisionEnd(
                outcome="refused",
                code=refusal.body.code,
                rung="",
                attempts=who.attempts,
                degraded=()
                if early is None
                else degraded_codes(early[0].plan.degraded, who.attempts, who.attempts[-1].rung),
                cost=0.0,
                timings=total_timings(request.arrived_at),
            )
            self._keep(request, snapshot, decided or features).end = end
            if self._ports.recording is not None and request.body.embedding is None and request.batch is None:
                self._ports.recording.note(RecordedRequest(features, request.arrived_at))
            raise
        # No await from here to the response stream: a cancellation in between would leave the grant unsettled.
        ports, plan = self._ports, decided.plan
        entry_id = next(ports.numbers)
        booked: Reply[None] = Reply()
        entry = LedgerEntry(
            entry_id,
            request.request_id,
            tenant,
            request.body.model,
            plan.route,
            decided.prompt_tokens,
            grant.reservation.tokens,
            grant.hold.amount,
            "" if plan.cascade is None else plan.cascade.name,
            granted.id,
            (request.body.user or "")[:_MAX_USER],
            f"{plan.experiment}/{plan.arm}" if plan.arm else "",
            request.credentials.tags,
            "" if request.batch is None else request.batch.batch_id,
            ports.wall(),
        )
        try:
            ports.ledger.put_nowait(OpenEntry(entry, booked))
        except MailboxFull:
            ports.admission.put_unbounded(Settle(grant, None))
            raise Unavailable("ledger_busy", TOO_BUSY, 1.0) from None
        account = Account(
            request,
            decided,
            snapshot=snapshot,
            grant=grant,
            entry_id=entry_id,
            decision=self._keep(request, snapshot, decided),
            ports=ports,
        )
        principal = snapshot.callers[tenant, decided.features.tier if request.batch is None else BATCH_TIER]
        if plan.shadows:
            self._shadows.copy(CopiedRequest(request, decided, snapshot, principal.cache_salt, text), account)
        return ResponseStream(account, principal=principal, text=text, booked=booked, on_end=self._on_end)

    def check(self, request: InferenceRequest, who: LogIdentity) -> None:
        """Before any work. Raises Refusal: the key does not permit the request, or its model is unknown."""
        granted = _granted(request, self._router.snapshot, self._ports.wall())
        who.tenant = granted.tenant
        self._named(request, granted)

    async def _spent(self, request: InferenceRequest, tenant: str, text: RequestText) -> QuotaRefusal | None:
        """The limit that the tenant has used up, if it is long work to read the request or to compile its grammar."""
        body = request.body
        short = request.body_bytes < LONG_CHARACTERS and body.grammar is None and body.tools is None
        if short or request.about_answer:
            return None
        reply: Reply[QuotaRefusal | None] = Reply()
        try:
            self._ports.admission.put_nowait(WouldFit(tenant, text.fewest_tokens, reply))
            return await reply.wait()
        except (MailboxFull, ActorDied):
            raise Unavailable("admission_busy", TOO_BUSY, 1.0) from None

    def _early(
        self, request: InferenceRequest, snapshot: PolicySnapshot, tenant: str, text: RequestText
    ) -> tuple[Planned, QueueItem, EarlyRefusal] | None:
        """A newcomer that every queue of its plan refuses, before its prompt is read; None: one may take it.

        Only where the plan is the same whatever the prompt's length, and nothing else is to know the length.
        """
        ports, settings = self._ports, snapshot.tenants[tenant]
        queue = snapshot.callers[tenant, settings.tier].tenant_queue
        if not any(backend.may_refuse(queue) for backend in ports.queues.values()):
            return None
        is_newcomer = request.begun is None and request.batch is None and not request.about_answer
        reads_length = "prompt_tokens" in snapshot.policy.needs or ports.recording is not None
        if not is_newcomer or reads_length or (settings.budget is not None and settings.budget.when_spent != "refuse"):
            return None
        lengths = text.estimated()
        features = self._features(request, snapshot, tenant, lengths)
        budget = None if settings.budget is None else self._budgets.view(tenant, ports.wall())
        now = self._ports.clock()
        sizes, load = PromptSizes({}, lengths), self._router.load(now)
        decided = decide(self._planning(snapshot), features, sizes, load, budget, request.arrived_at)
        if not isinstance(decided, Planned) or decided.plan.experiment:
            # An experiment counts its refusals by arm, as attempts of an answer.
            return None
        item = QueueItem(
            job_id=request.request_id, tenant=queue, prompt_tokens=decided.prompt_tokens, tokens=decided.tokens
        )
        early = early_refusal(decided.plan, item, ports.queues, now, self._chance())
        return None if early is None else (decided, item, early)

    def _refused_early(
        self, request: InferenceRequest, decided: Planned, item: QueueItem, early: EarlyRefusal, who: LogIdentity
    ) -> Refusal:
        """Count it as if it had been offered to the queues."""
        refusal, history, dispatch = refusal_of(early.give_up), early.history, self._ports.dispatch
        who.route, who.attempts = decided.plan.route, history
        message = RefusedEarly(item, tuple([attempt.rung for attempt in history]))
        if not dispatch.handle_now(message):
            # Nothing depends on a single count.
            with suppress(MailboxFull):
                dispatch.put_nowait(message)
        key = RequestKey(decided.plan.route, history[-1].rung, "refused", refusal.body.code)
        count_request(self._ports.counters, key, history, self._ports.clock() - request.arrived_at)
        return refusal

    async def count_tokens(self, request: InferenceRequest, who: LogIdentity) -> int:
        """Plan, and count for the first planned rung whose tokenizer is known. Raises Refusal; nothing is reserved."""
        snapshot = self._router.snapshot
        granted = _granted(request, snapshot, self._ports.wall())
        who.tenant = granted.tenant
        request = self._named(request, granted)
        text = self._text(request, snapshot, granted.tenant)
        features = self._features(request, snapshot, granted.tenant, await self._lengths(request, text))
        decided = await self._decide(request, snapshot, text, features, None)
        if isinstance(decided, PlanRefusal):
            raise _refusal_of(decided)
        who.route = decided.plan.route
        for rung in decided.plan.backends:
            if rung in self._texts:
                return sum(await text.lengths(rung, lenient=False))
        raise InvalidRequest(
            f"The tokens cannot be counted: the model '{request.body.model}' is served by upstreams whose tokenizer "
            "this server does not have.",
            param="model",
            code="tokenizer_unknown",
        )

    def _named(self, request: InferenceRequest, granted: KeyGrant) -> InferenceRequest:
        """With its model, adapter and media tokens.

        Raises Refusal: the key does not permit it, its media are beyond a bound, or the model is unknown.
        """
        if not request.of_service:
            check_body(granted, request.body)
        model, adapter = self._router.find_model(request.body.model)
        tokens = media_tokens(request.body, self._router.snapshot.settings.media)
        return msgspec.structs.replace(request, model=model, adapter=adapter, media_tokens=tokens)

    def _text(self, request: InferenceRequest, snapshot: PolicySnapshot, tenant: str) -> RequestText:
        work_for = WorkFor(tenant, snapshot.ranks[tenant])
        return RequestText(request, self._texts_for[request.body.wants_vectors], self._workers, work_for)

    async def _lengths(self, request: InferenceRequest, text: RequestText) -> Sequence[int]:
        """Tokens of each prompt, counted by the model that was requested. Raises InvalidRequest."""
        return await text.lengths(request.model, lenient=bool(self._ports.upstreams))

    def _features(
        self, request: InferenceRequest, snapshot: PolicySnapshot, tenant: str, lengths: Sequence[int]
    ) -> Features:
        features = features_of(
            request,
            snapshot.policy,
            tenant,
            snapshot.tenants[tenant],
            lengths,
            at=self._ports.wall(),
            knows_effort=self._knows_effort,
        )
        if request.batch is not None:
            share = snapshot.settings.batch.price
            requirements = msgspec.structs.replace(features.requirements, price_share=share)
            features = msgspec.structs.replace(features, requirements=requirements)
        if snapshot.tenants[tenant].budget is None or request.about_answer:
            return features
        view = self._budgets.view(tenant, self._ports.wall())
        return features if view is None else msgspec.structs.replace(features, budget_used=view.used)

    def _keep(
        self, request: InferenceRequest, snapshot: PolicySnapshot, decided: Planned | PlanRefusal | Features
    ) -> LoggedDecision:
        """Log the decision, or the features of a request that was refused before one was made."""
        decision = LoggedDecision(
            request.request_id,
            arrived_at=request.arrived_at,
            policy=snapshot.policy.digest,
            features=decided if isinstance(decided, Features) else decided.features,
            load=decided.load if isinstance(decided, Planned) else self._router.load(self._ports.clock()),
            plan=None if isinstance(decided, Features) else decided.plan,
        )
        self._ports.decisions.add(decision)
        return decision

    async def _decide(
        self,
        request: InferenceRequest,
        snapshot: PolicySnapshot,
        text: RequestText,
        features: Features,
        budget: BudgetView | None,
    ) -> Planned | PlanRefusal:
        """Raises InvalidRequest if no rung can encode the prompt."""
        sizes = text.sizes
        while True:
            load = self._router.load(self._ports.clock())
            decided = decide(self._planning(snapshot), features, sizes, load, budget, request.arrived_at)
            if not isinstance(decided, SizesNeeded):
                return decided
            counted = await text.lengths(decided.rung, lenient=decided.may_estimate)
            sizes = sizes.counted(decided.rung, counted)

    def _planning(self, snapshot: PolicySnapshot) -> PlanningSnapshot:
        """The same as long as the policy and the backends' limits are."""
        made, limits = self._planning_made, [published.limits for published in self._ports.all_published.values()]
        if made is None or made.policy is not snapshot.policy or limits != self._limits:
            named = zip(self._ports.all_published, limits, strict=True)
            lengths = {name: each.max_model_len for name, each in named if each is not None}
            made = PlanningSnapshot(snapshot.policy, snapshot.tenants, Backends(lengths, self._encoders))
            self._planning_made, self._limits = made, limits
        return made

    async def _reserve(self, decided: Planned, *, limited: bool) -> Grant | BudgetRefusal:
        """Ask the admission actor. A budget that was sufficient when it was read may be spent by then."""
        reply: Reply[Grant | QuotaRefusal | BudgetRefusal] = Reply()
        try:
            reserve = Reserve(decided.features.tenant, decided.tokens, decided.cost, reply, limited)
            if not self._ports.admission.handle_now(reserve):
                self._ports.admission.put_nowait(reserve)
            answer = await reply.wait()
        except (MailboxFull, ActorDied):
            raise Unavailable("admission_busy", TOO_BUSY, 1.0) from None
        if isinstance(answer, QuotaRefusal):
            raise over_quota(answer)
        return answer


def _granted(request: InferenceRequest, snapshot: PolicySnapshot, at: float) -> KeyGrant:
    """What the request's key permits, or the tenant of a batch, or of what an earlier process has begun.

    Raises Refusal.
    """
    if request.batch is not None:
        _check_tenant(request.batch.tenant, snapshot)
        return KeyGrant(request.batch.tenant, request.batch.key)
    if request.begun is None:
        # A key may expire while its answer is made: what is asked about the answer belongs to it.
        return snapshot.grant_of(request.credentials.api_key, -math.inf if request.about_answer else at)
    _check_tenant(request.begun.tenant, snapshot)
    # Its key is not stored; its readers have shown one.
    return KeyGrant(request.begun.tenant)


def _check_tenant(tenant: str, snapshot: PolicySnapshot) -> None:
    """Raises Forbidden."""
    if tenant not in snapshot.tenants:
        raise Forbidden("tenant_removed", "The tenant of this answer is not in the configuration any more.")


def _refusal_of(decided: PlanRefusal) -> Refusal:
    """The refusal that the client receives."""
    if decided.budget is not None:
        return budget_spent(decided.budget)
    return InvalidRequest(decided.message, param=decided.param, code=decided.code)
