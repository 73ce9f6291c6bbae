"""How a request comes in: who asks, what will be tried, and what it may spend."""

import time
from collections.abc import Callable

import msgspec
import trio

from actors.admission.admission import budget_spent, over_quota
from actors.api.errors import InvalidRequest, Refusal, Unavailable, unsupported
from actors.api.request import InferenceRequest
from actors.kernel.errors import ActorDied, MailboxFull
from actors.kernel.reply import Reply
from actors.kernel.workers import WorkerPool
from actors.prompt.output_constraints import ConstraintsByModel, shown_whole
from actors.prompt.prompt_encoder import PromptEncoder
from actors.protocol.admission import Grant, Reserve, Settle
from actors.protocol.ledger import LedgerEntry, OpenEntry
from actors.recording.recorder import RecordedRequest
from actors.request.account import Account
from actors.request.ports import RequestPorts
from actors.request.request_log import LogIdentity
from actors.request.response_stream import ResponseStream
from actors.request.shadow_port import CopiedRequest, ShadowPorts
from actors.routing.features import features_of
from actors.routing.modality import of_one_kind
from actors.routing.policy_snapshot import PolicySnapshot
from actors.routing.router import Router
from actors.routing.token_budget import output_bound, rungs_of, without_a_release_too_far
from policies.admission.budget import BudgetBook, BudgetRefusal, spending_options
from policies.admission.prices import worst_cost
from policies.admission.quota import QuotaRefusal
from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import Plan, capped, with_adapter
from policies.records.decision_log import DecisionEnd, LoggedDecision


class _Decided(msgspec.Struct, frozen=True):
    """What a request may do and need."""

    features: Features
    load: Load
    plan: Plan
    prompt_tokens: int
    tokens: int
    """In the worst case."""
    cost: float
    """In the worst case."""


class RequestAdmission:
    """Runs in the task of whoever opens an exchange; owns nothing."""

    def __init__(
        self,
        router: Router,
        budgets: BudgetBook,
        workers: WorkerPool,
        ports: RequestPorts,
        *,
        shadows: ShadowPorts,
        on_end: Callable[[ResponseStream], None],
    ) -> None:
        """`budgets` is admission's, which alone writes it."""
        self._router = router
        self._budgets = budgets
        self._texts = ports.texts
        self._encoders = {name: text.sizes for name, text in self._texts.items() if text.sizes is not None}
        self._texts_for = {
            embeds: {name: text for name, text in self._texts.items() if (name in self._encoders) == embeds}
            for embeds in (False, True)
        }
        self._workers = workers
        self._ports = ports
        self._shadows = shadows
        self._on_end = on_end

    async def open(self, request: InferenceRequest, who: LogIdentity) -> ResponseStream:
        """Decide who asks, what may be spent and what will be tried. Raises Refusal; on any error nothing is left.

        `who` is told what is found out, for the log of a request that is refused.
        """
        snapshot = self._router.snapshot
        tenant = who.tenant = snapshot.tenant_of(request.credentials.api_key)
        model, adapter = self._router.find_model(request.body.model)
        request = msgspec.structs.replace(request, model=model, adapter=adapter)
        texts = self._texts_for[request.body.embedding is not None]
        prompts = PromptEncoder(
            request.body.prompts, request.body.param, texts, self._workers, most=request.body.truncate_prompt_tokens
        )
        shapes = ConstraintsByModel(request, self._texts, self._workers)
        lengths = await prompts.lengths(request.model, lenient=bool(self._ports.upstreams))
        features = features_of(request, snapshot.policy, tenant, snapshot.tenants[tenant], sum(lengths))
        budget = snapshot.tenants[tenant].budget
        if budget is not None and (view := self._budgets.view(tenant, time.time())) is not None:
            features = msgspec.structs.replace(features, budget_used=view.used)
        decided: _Decided | None = None
        grant: Grant | BudgetRefusal | None = None
        try:
            for wanted in spending_options(features, budget):
                decided = await self._size(request, snapshot, prompts, wanted)
                who.route = decided.plan.route
                first = next(iter(rungs_of(decided.plan)), "")
                if first in self._texts and first not in self._ports.upstreams:
                    await shapes.for_engine(first)
                grant = await self._reserve(decided)
                if isinstance(grant, Grant):
                    break
            else:
                assert isinstance(grant, BudgetRefusal)
                raise budget_spent(grant)
        except Refusal as refusal:
            end = DecisionEnd(outcome="refused", code=refusal.body.code, rung="")
            refused = features if decided is None else decided.features
            self._keep(request, snapshot, refused, decided).end = end
            if self._ports.recording is not None and request.body.embedding is None:
                self._ports.recording.note(RecordedRequest(features, request.arrived_at))
            raise
        # From here to the exchange nothing may wait: whoever holds the grant must be able to settle it.
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
        )
        try:
            ports.ledger.put_nowait(OpenEntry(entry, booked))
        except MailboxFull as full:
            ports.admission.put_unbounded(Settle(grant, None))
            raise Unavailable("ledger_busy", str(full), 1.0) from None
        account = Account(
            request,
            plan,
            snapshot=snapshot,
            features=decided.features,
            prompt_tokens=decided.prompt_tokens,
            grant=grant,
            entry_id=entry_id,
            decision=self._keep(request, snapshot, decided.features, decided),
            ports=ports,
        )
        principal = snapshot.callers[tenant, decided.features.tier]
        if plan.shadows:
            self._shadows.copy(
                CopiedRequest(request, plan, snapshot, decided.features, decided.load, principal, prompts), account
            )
        return ResponseStream(
            request,
            plan,
            principal=principal,
            prompts=prompts,
            shapes=shapes,
            account=account,
            booked=booked,
            ports=ports,
            on_end=self._on_end,
        )

    def _keep(
        self, request: InferenceRequest, snapshot: PolicySnapshot, features: Features, decided: _Decided | None
    ) -> LoggedDecision:
        """What was decided, for whoever asks why."""
        decision = LoggedDecision(
            request.request_id,
            arrived_at=request.arrived_at,
            policy=snapshot.policy.digest,
            features=features,
            load=self._router.load(trio.current_time()) if decided is None else decided.load,
            plan=None if decided is None else decided.plan,
        )
        self._ports.decisions.add(decision)
        return decision

    async def _size(
        self, request: InferenceRequest, snapshot: PolicySnapshot, prompts: PromptEncoder, features: Features
    ) -> _Decided:
        now = trio.current_time()
        load = self._router.load(now)
        plan = self._router.plan(snapshot.policy, features, load, request.arrived_at)
        plan = of_one_kind(plan, request, self._encoders, snapshot.settings.engines)
        if request.adapter:
            plan = with_adapter(plan, request.adapter)
        rungs = rungs_of(plan) or (request.model,)
        if request.body.needs_upstream and self._ports.upstreams.keys().isdisjoint(rungs):
            name = request.body.needs_upstream[0]
            raise InvalidRequest(unsupported(name), param=name, code="unsupported_parameter")
        lengths = await prompts.lengths(rungs[0], lenient=not self._ports.upstreams.keys().isdisjoint(rungs))
        all_published = self._ports.all_published
        bound = output_bound(request, plan, lengths, all_published)
        plan = without_a_release_too_far(plan, request.body.params.max_tokens, max(lengths), all_published)
        plan = shown_whole(plan, request)
        plan = capped(plan, request.body.params.max_tokens)
        prompt_tokens, output_tokens = sum(lengths), bound * len(lengths) * request.body.n
        cost = worst_cost(snapshot.policy.prices, plan, prompt_tokens, output_tokens)
        return _Decided(features, load, plan, prompt_tokens, prompt_tokens + output_tokens, cost)

    async def _reserve(self, decided: _Decided) -> Grant | BudgetRefusal:
        """Money for it, if that is left when it is admission's turn: what was read before may be spent by then."""
        reply: Reply[Grant | QuotaRefusal | BudgetRefusal] = Reply()
        try:
            reserve = Reserve(decided.features.tenant, decided.tokens, decided.cost, reply)
            self._ports.admission.put_nowait(reserve)
            answer = await reply.wait()
        except (MailboxFull, ActorDied) as error:
            raise Unavailable("admission_busy", f"{error}; try again.", 1.0) from None
        if isinstance(answer, QuotaRefusal):
            raise over_quota(answer)
        return answer
