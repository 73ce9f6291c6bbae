"""Wires the actors together. The edge sees this and `Exchange`, nothing else."""

import time
from collections.abc import Callable, Mapping
from functools import partial

import trio

from actors.account import Account
from actors.admission import Admission, over_quota
from actors.attempt import Caller
from actors.breakers import BreakerBoard, Breakers
from actors.colleagues import Colleagues
from actors.deadlines import DeadlineWheel
from actors.dispatch import Dispatch
from actors.drain import DrainShell
from actors.engine_actor import EngineActor
from actors.engine_board import EngineBoard
from actors.errors import (
    ActorDied,
    BadKey,
    EngineLoadFailed,
    MailboxFull,
    PromptTooLong,
    Refusal,
    Unavailable,
    ledger_unavailable,
)
from actors.exchange import Exchange
from actors.lane import Lane
from actors.ledger import Ledger, LedgerBooks
from actors.ledger_lock import ledger_lock
from actors.links import EngineFactory, Links, ThreadLinks
from actors.mail import (
    AdmissionMessage,
    Book,
    BreakerMessage,
    DispatchMessage,
    EngineMessage,
    LedgerMessage,
    Line,
    Reserve,
    Settle,
)
from actors.mailbox import Mailbox
from actors.messages import ChatPrompt, InferenceRequest
from actors.prompts import Prompts
from actors.readiness import EngineReadiness, HouseState, ModelCard, Readiness
from actors.reply import Reply
from actors.router import Router
from actors.statistics import HouseStatistics
from actors.supervisor import Child, Supervisor
from actors.tally import Tally
from actors.texts import ModelText
from actors.traits import features_of
from config.settings import Settings
from config.tenants import ANONYMOUS, known_tenants
from engine.errors import ModelError
from engine.messages import EngineStats
from policies.fair_queue import FairQueue
from policies.keys import KeyRing
from policies.plan import Plan, gated
from policies.policy import rung_breakers
from policies.quota import QuotaBook, QuotaRefusal, Reservation
from policies.retry_budget import RetryBudget

_MAILBOX = 4096
_NOTHING_YET = EngineStats(0, 0, 0, 0, 0, 0)


class House:
    """Everything behind the edge."""

    def __init__(
        self,
        settings: Settings,
        engines: Mapping[str, EngineFactory],
        *,
        texts: Mapping[str, ModelText] | None = None,
        links: Links | None = None,
    ) -> None:
        """`texts`: how each engine reads; None loads it from the engines' model directories.

        Raises EngineLoadFailed if a tokenizer or a chat template cannot be read.
        """
        self._settings = settings
        self._links: Links = links if links is not None else ThreadLinks()
        self._tenants = known_tenants(settings)
        self._keys = KeyRing(settings.keys)
        self._callers = {
            name: Caller.of(name, settings.tiers[tenant.tier].priority) for name, tenant in self._tenants.items()
        }
        self._created = int(time.time())
        self._texts = texts if texts is not None else _load_texts(settings)
        self._boards = {name: EngineBoard(name) for name in settings.engines}
        self._lanes = {name: self._lane(name) for name in settings.engines}
        self._tally = Tally()
        self._books = LedgerBooks()
        self._quota = QuotaBook(self._tenants)
        self._exchanges: dict[Exchange, None] = {}
        self._wheel = DeadlineWheel()
        digests = {name: text.digest for name, text in self._texts.items()}
        self._breakers = BreakerBoard(rung_breakers(settings), RetryBudget(settings.retry_budget))
        self._router = Router(settings, digests, self._lanes, self._breakers)
        self._admission: Mailbox[AdmissionMessage] = Mailbox("admission", _MAILBOX)
        self._dispatch: Mailbox[DispatchMessage] = Mailbox("dispatch", _MAILBOX)
        self._breakers_mail: Mailbox[BreakerMessage] = Mailbox("breakers", _MAILBOX)
        self._ledger: Mailbox[LedgerMessage] = Mailbox("ledger", _MAILBOX)
        self._engines: dict[str, Mailbox[EngineMessage]] = {
            name: Mailbox(f"engine {name}", _MAILBOX) for name in settings.engines
        }
        self._colleagues = Colleagues(
            admission=self._admission,
            dispatch=self._dispatch,
            breakers=self._breakers_mail,
            ledger=self._ledger,
            breaker_board=self._breakers,
            boards=self._boards,
            texts=self._texts,
            wheel=self._wheel,
            tally=self._tally,
        )
        self._supervisor = Supervisor(self._children(engines))
        self._drain = DrainShell(self._exchanges, self._ledger)
        self._was_ready = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Supervise all actors until cancelled. Raises HouseFailed when they cannot be kept alive."""
        with ledger_lock(self._settings.ledger.path):
            await self._supervisor.run(task_status=task_status)

    async def drain(self, deadline: float) -> None:
        """Refuse new work, let running answers end until the deadline, end the others, and settle the ledger.

        A second call may only bring the deadline forward.
        """
        await self._drain.run(deadline)

    def readiness(self) -> Readiness:
        """Ready: it serves, it can write down what it serves, and every engine was loaded.

        An engine that has failed since then is the ladder's business.
        """
        engines = {name: EngineReadiness(board.state, board.why) for name, board in self._boards.items()}
        state: HouseState = self._drain.state
        if state == "serving" and self._books.is_blocked(trio.current_time()):
            state = "ledger_blocked"
        return Readiness(state == "serving" and self._is_loaded(), state, engines)

    def models(self) -> tuple[ModelCard, ...]:
        """The names that clients may ask for."""
        return tuple(
            ModelCard(name, model.description, self._created, self._length_of(name))
            for name, model in self._settings.models.items()
        )

    def _length_of(self, model: str) -> int | None:
        """What every engine that may answer to this name can hold."""
        limits = [self._boards[name].limits for name in self._router.policy.rungs_of(model)]
        known = [each.max_model_len for each in limits if each is not None]
        return min(known) if known and len(known) == len(limits) else None

    def statistics(self) -> HouseStatistics:
        """All figures, as they are published now."""
        now = trio.current_time()
        tally = self._tally
        return HouseStatistics(
            requests_total=dict(tally.requests),
            refusals_total=dict(tally.refusals),
            escalations_total=dict(tally.escalations),
            fallbacks_total=dict(tally.fallbacks),
            prompt_tokens_total=tally.prompt_tokens,
            completion_tokens_total=tally.completion_tokens,
            discarded_tokens_total=tally.discarded_tokens,
            overrun_total=tally.overruns,
            in_flight=len(self._exchanges),
            latency=tally.latency(),
            engines={name: board.stats or _NOTHING_YET for name, board in self._boards.items()},
            engine_restarts_total={name: board.restarts for name, board in self._boards.items()},
            queues={name: lane.statistics(now) for name, lane in self._lanes.items()},
            breakers={rung: view.state for rung, view in self._breakers.views(now).items()},
            ledger=self._books.statistics(),
            usage=dict(self._books.usage),
        )

    async def open(self, request: InferenceRequest) -> Exchange:
        """Decide who asks, what may be spent and what will be tried. Raises Refusal; on any error nothing is left."""
        try:
            return await self._open(request)
        except Refusal as refusal:
            self._tally.refusals[refusal.body.code] += 1
            raise

    async def _open(self, request: InferenceRequest) -> Exchange:
        if self._drain.state != "serving":
            raise Unavailable("shutting_down", "The server is shutting down; try another one.", 1.0)
        if not self._is_loaded():
            raise Unavailable("loading", "The models are being loaded; try again in a moment.", 1.0)
        if self._books.is_blocked(trio.current_time()):
            raise ledger_unavailable()
        tenant = self._authenticate(request.api_key)
        self._router.check_model(request.model)
        prompts = Prompts(request.prompts, self._texts, self._links)
        counted = await prompts.read_by(self._reference_engine(request.model))
        plan = self._router.plan(
            features_of(request, self._router.policy, tenant, self._tenants[tenant], sum(map(len, counted))),
            request.arrived_at,
            trio.current_time(),
        )
        engines = _engines_of(plan)
        if engines:
            counted = await prompts.read_by(engines[0])
        lengths = [len(token_ids) for token_ids in counted]
        max_tokens = self._max_tokens(request, plan, engines, lengths)
        plan = self._without_a_release_too_far(plan, request.params.max_tokens, max(lengths))
        reservation = await self._reserve(tenant, sum(lengths) + max_tokens * len(lengths) * request.n)
        # From here to the exchange nothing may wait: whoever holds the reservation must be able to settle it.
        number = next(self._colleagues.numbers)
        booked: Reply[None] = Reply()
        line = Line(number, request.request_id, tenant, request.model, plan.route, sum(lengths), reservation.tokens)
        try:
            self._ledger.put_nowait(Book(line, booked))
        except MailboxFull as full:
            self._admission.put_owed(Settle(reservation, None))
            raise Unavailable("ledger_busy", str(full), 1.0) from None
        account = Account(
            request,
            tenant=tenant,
            route=plan.route,
            prompt_tokens=sum(lengths),
            reservation=reservation,
            line=number,
            colleagues=self._colleagues,
        )
        exchange = Exchange(
            request,
            plan,
            caller=self._callers[tenant],
            prompts=prompts,
            account=account,
            booked=booked,
            colleagues=self._colleagues,
            on_end=self._ended,
        )
        self._exchanges[exchange] = None
        return exchange

    def _ended(self, exchange: Exchange) -> None:
        self._exchanges.pop(exchange, None)
        self._drain.look()

    def _authenticate(self, key: str | None) -> str:
        if not self._settings.keys:
            return ANONYMOUS
        tenant = self._keys.authenticate(key) if key is not None else None
        if tenant is None:
            raise BadKey(missing=key is None)
        return tenant

    def _max_tokens(self, request: InferenceRequest, plan: Plan, engines: tuple[str, ...], lengths: list[int]) -> int:
        """Output tokens of a choice at the most, on whatever rung. Raises PromptTooLong if no rung can take it."""
        limits = [board.limits.max_model_len for name in engines if (board := self._boards[name]).limits is not None]
        asked = request.params.max_tokens
        cap = plan.output_cap
        asked_or_cap = min(asked, cap) if asked and cap is not None else asked
        if not limits:
            return asked_or_cap
        longest = max(limits)
        for length in lengths:
            if length + max(asked_or_cap, 1) > longest:
                raise PromptTooLong(
                    model_tokens=longest,
                    prompt_tokens=length,
                    max_tokens=asked_or_cap,
                    param="messages" if isinstance(request.prompts[0], ChatPrompt) else "prompt",
                )
        room = longest - min(lengths)
        return asked_or_cap or (min(cap, room) if cap is not None else room)

    def _without_a_release_too_far(self, plan: Plan, asked: int, prompt_tokens: int) -> Plan:
        """Window mode only if the large model can go on after whatever the small one may have said."""
        cascade = plan.cascade
        if cascade is None or cascade.mode != "window" or cascade.start_on != "small" or not cascade.may_escalate:
            return plan
        assert cascade.small.to is not None
        assert cascade.large.to is not None
        small, large = self._boards[cascade.small.to].limits, self._boards[cascade.large.to].limits
        if small is None or large is None:
            return plan
        most = min([bound for bound in (asked, plan.output_cap) if bound] or [small.max_model_len - prompt_tokens])
        # What only the cap asks for is cut to what a model leaves.
        most = most if asked else min(most, small.max_model_len - prompt_tokens)
        if prompt_tokens + max(most, 1) <= large.max_model_len:
            return plan
        return gated(plan, f"{cascade.large.to} holds {large.max_model_len} tokens, fewer than the answer may need")

    async def _reserve(self, tenant: str, tokens: int) -> Reservation:
        reply: Reply[Reservation | QuotaRefusal] = Reply()
        try:
            self._admission.put_nowait(Reserve(tenant, tokens, reply))
            answer = await reply.wait()
        except (MailboxFull, ActorDied) as error:
            raise Unavailable("admission_busy", f"{error}; try again.", 1.0) from None
        if isinstance(answer, QuotaRefusal):
            raise over_quota(answer)
        return answer

    def _reference_engine(self, model: str) -> str:
        """By whose tokenizer a prompt is counted before its route is known."""
        return model if model in self._texts else next(iter(self._texts))

    def _is_loaded(self) -> bool:
        if not self._was_ready:
            self._was_ready = all(board.limits is not None for board in self._boards.values())
        return self._was_ready

    def _lane(self, name: str) -> Lane:
        engine = self._settings.engines[name]
        queue = FairQueue(self._settings.tiers, self._tenants)  # type: ignore[var-annotated]
        return Lane(self._boards[name], queue, engine.max_running, engine.kv.block_size)

    def _children(self, factories: Mapping[str, EngineFactory]) -> list[Child]:
        """In start order. The ledger is the first one up and the last one down."""
        settings, links, wheel = self._settings, self._links, self._wheel

        def engine(name: str) -> Callable[[], EngineActor]:
            return partial(
                EngineActor,
                self._engines[name],
                dispatch=self._dispatch,
                board=self._boards[name],
                factory=factories[name],
                links=links,
                wheel=wheel,
                stall_s=float(settings.engines[name].stall),
                waited_for=partial(bool, self._lanes[name].queue),
            )

        return [
            Child(
                "ledger", partial(Ledger, self._ledger, self._books, settings.ledger.path, links, wheel), self._ledger
            ),
            Child("deadlines", lambda: wheel),
            Child("admission", partial(Admission, self._admission, self._quota), self._admission),
            Child("breakers", partial(Breakers, self._breakers_mail, self._breakers), self._breakers_mail),
            *(Child(f"engine {name}", engine(name), self._engines[name]) for name in settings.engines),
            Child("dispatch", partial(Dispatch, self._dispatch, self._lanes, self._engines, wheel), self._dispatch),
        ]


def _engines_of(plan: Plan) -> tuple[str, ...]:
    """All engines that may answer, the likeliest first."""
    stages = [] if plan.cascade is None else [plan.cascade.small.to, plan.cascade.large.to]
    names = [*stages, *(rung.to for rung in plan.rungs)]
    return tuple(dict.fromkeys([name for name in names if name is not None]))


def _load_texts(settings: Settings) -> dict[str, ModelText]:
    texts = {}
    for name, engine in settings.engines.items():
        try:
            texts[name] = ModelText.load(engine.model)
        except ModelError as error:
            raise EngineLoadFailed(f"engine '{name}' cannot be loaded: {error.message}") from error
    return texts
