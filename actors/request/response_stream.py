"""One answer under way: the climb's shell. It runs in the task of whoever reads it and owns nothing but its slot.

Exactly one end: every way out goes through `_finish`, which withdraws what runs, settles the reservation, closes the
ledger's line and counts.
"""

import random
from collections.abc import Callable
from typing import NoReturn

import trio

from actors.api.errors import ErrorBody, Refusal, Unavailable, ledger_unavailable, refusal_of
from actors.api.principal import Principal
from actors.api.request import InferenceRequest
from actors.api.response import AttemptSummary as AttemptNote
from actors.api.response import DecisionInfo, Delta, Done, Failed, ResponseEvent, Served, Start, Usage
from actors.kernel.errors import ActorDied, MailboxFull
from actors.kernel.reply import Reply
from actors.prompt.output_constraints import ConstraintsByModel
from actors.prompt.prompt_encoder import PromptEncoder
from actors.protocol.delivery import Delivery, Item
from actors.protocol.outputs import JobFailed, JobOutput, JobRejected, JobStarted, StreamNotice, Terminate
from actors.protocol.queue import Enqueue, Withdraw
from actors.request.account import Account
from actors.request.attempt import Attempt
from actors.request.attempt_factory import AttemptFactory
from actors.request.draft_verification import Drafter
from actors.request.ports import RequestPorts
from actors.request.request_log import GONE_STATUS
from engine.core.messages import TokenDelta
from policies.fallback import fallback_machine
from policies.model.degraded import BY_BUDGET, with_the_way
from policies.model.plan import Plan

_STATIC = "static_answer"


class ResponseStream:
    """Ask for `next_events` until `Done` or `Failed`; `close` must be called however it ends."""

    def __init__(
        self,
        request: InferenceRequest,
        plan: Plan,
        *,
        principal: Principal,
        prompts: PromptEncoder,
        shapes: ConstraintsByModel,
        account: Account,
        booked: Reply[None],
        ports: RequestPorts,
        on_end: "Callable[[ResponseStream], None]",
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`booked`: the ledger's reply for the account's line. `chance`: numbers in 0..1, which spread retries."""
        self._request = request
        self._plan = plan
        self._account = account
        self._booked: Reply[None] | None = booked
        self._shapes = shapes
        self._ports = ports
        self._on_end = on_end
        self._chance = chance
        self._climb = fallback_machine.FallbackMachine(plan)
        self._delivery = Delivery()
        self._attempt_factory = AttemptFactory(
            request, plan, principal, prompts, shapes, account, self._delivery, ports
        )
        self._watch = ports.timers.watch(float("inf"), self._delivery.alarm)
        self._attempt: Attempt | None = None
        self._events: list[ResponseEvent] = []
        self._whole: list[Delta] = []
        """What is held back until the end of an answer that is not streamed."""
        self._stall_at = float("inf")
        self._due = float("inf")
        self._started = False
        self._start_sent = False
        self._answer_sent = False
        """Something of the answer itself, not reasoning alone."""
        self._ended = False
        self._margin: float | None = None
        self._drafts = (0, 0)
        """Of the last attempt: tokens drafted, tokens accepted."""
        self._adapter = ""
        """Of the last attempt, as NAME@VERSION if it came to its end."""
        self._model = ""
        """That answered last."""
        self._word: str | None = None
        """Its upstream's finish reason, if it is none that is known."""
        self._last_at = request.arrived_at
        self._cut_on = ""
        """The rung whose answer was cut, by nobody's fault or its reader's: the climb knows nothing of it."""

    @property
    def decided(self) -> DecisionInfo:
        """By which policy, and in which arm."""
        plan = self._plan
        return DecisionInfo(plan.policy, plan.experiment, plan.arm, self._shapes.passed_over)

    async def next_events(self) -> list[ResponseEvent]:
        """At least one event; none after the last one. Raises Refusal before the first content."""
        if self._ended:
            return []
        if not self._started:
            self._started = True
            await self._obey(self._climb.start(trio.current_time()))
        while not self._events:
            attempt = self._attempt
            assert attempt is not None
            items = await self._delivery.take(quiet=attempt.quiet(streamed=self._request.body.streamed))
            event = self._absorb(items, trio.current_time())
            if event is not None:
                await self._obey(self._climb.on(event, trio.current_time(), self._chance()))
        if self._booked is not None:
            await self._wait_for_the_ledger(self._booked)
        events, self._events = self._events, []
        match events[-1]:
            case Done(served=served):
                self._finish("ok", served.why, 200)
            case Failed(error=error):
                outcome = "overrun" if error.code == "slow_reader" else "failed"
                self._finish(outcome, error.code, 200 if self._start_sent else error.status)
        return events

    def close(self) -> None:
        """Synchronous, idempotent. What still runs is aborted, and what was delivered is settled."""
        if not self._ended:
            self._finish("gone", "client_gone", GONE_STATUS)

    def cut(self, code: str, message: str) -> None:
        """End it from outside, truthfully."""
        self._delivery.say(0, Terminate(code, message))

    # --- what comes in ------------------------------------------------------------------------------------------

    def _absorb(self, items: list[Item], now: float) -> fallback_machine.FallbackEvent | None:
        """Take in what has come; the climb's event if the attempt is over."""
        attempt = self._attempt
        assert attempt is not None
        for position, (job_id, item) in enumerate(items, 1):
            event = None
            drafter = attempt.drafter
            if drafter is not None and drafter.owns(job_id):
                event = self._draft(attempt, drafter, item)
            elif isinstance(item, JobOutput):
                if job_id == attempt.job.job_id:
                    event = self._output(attempt, item, now)
            elif job_id in {attempt.job.job_id, 0}:
                event = self._notice(attempt, item, now)
            if self._attempt is not attempt:
                # It is over. What has come since concerns the next one, or nobody.
                self._delivery.put_back(items[position:])
                return event
        if self._delivery.overrun:
            self._cut_on = attempt.rung
            self._close_attempt(ok=None, leaving=True)
            self._fail(ErrorBody(503, "server_error", "slow_reader", "The answer was cut: it was read too slowly."))
            return None
        if attempt.output_seen:
            self._due = min(self._stall_at, self._plan.total_at)
        if now >= self._due and attempt.drafter is not None and attempt.drafter.waiting:
            attempt.drafter.hurry()
            return self._offer(attempt)
        if now >= self._due:
            return self._too_late(attempt, now)
        self._ports.timers.move(self._watch, self._due)
        return None

    def _draft(
        self, attempt: Attempt, drafter: Drafter, item: JobOutput | StreamNotice
    ) -> fallback_machine.FallbackEvent | None:
        if isinstance(item, JobStarted):
            self._account.worked = True
        waited = drafter.waiting
        drafter.take(item)
        return self._offer(attempt) if waited and not drafter.waiting else None

    def _output(self, attempt: Attempt, output: JobOutput, now: float) -> fallback_machine.FallbackEvent | None:
        attempt.output_seen = True
        self._stall_at = now + self._plan.stall_s
        if attempt.drafter is not None and isinstance(output, TokenDelta) and output.finish is None:
            attempt.drafter.said(output.token_ids, self._plan.total_at)
        assembly = attempt.assembly
        shown: list[Delta] = []
        verdict = assembly.feed(output, shown)
        if shown:
            self._show(shown, now)
        match verdict:
            case "going":
                return None
            case "complete":
                why = self._why(attempt)
                self._close_attempt(ok=True)
                self._complete(attempt, why, now)
                return None
            case "escalate":
                self._close_attempt(ok=True)
                self._ports.counters.escalations[self._plan.route, assembly.why] += 1
                return fallback_machine.Escalated(why=assembly.why, prefix=self._prefix(attempt))
            case "broken":
                broken = assembly.broken
                assert broken is not None
                self._close_attempt(ok=None)
                if broken.code == "adapter_not_loaded":
                    # It was unloaded between our look and the engine's.
                    return fallback_machine.RungRefused(why=broken.code, message=broken.message, lasting=True)
                return fallback_machine.AttemptFailed(
                    kind=broken.code or "aborted",
                    retryable=False,
                    fatal=broken.reason == "error",
                    message=broken.message,
                    prefix=self._prefix(attempt),
                )

    def _notice(self, attempt: Attempt, notice: StreamNotice, now: float) -> fallback_machine.FallbackEvent | None:
        match notice:
            case JobStarted(at):
                attempt.taken = self._account.worked = True
                self._account.taken_at = self._account.taken_at or at
                self._ports.counters.queue_wait.add(max(at - self._request.arrived_at, 0.0))
                return None
            case JobRejected(why, message, retry_after_s, lasting, said):
                self._close_attempt(ok=None, over=True)
                return fallback_machine.RungRefused(
                    why=why,
                    retry_after_s=retry_after_s,
                    message=message,
                    lasting=lasting,
                    prefix=self._prefix(attempt),
                    said=said,
                )
            case JobFailed(code, message, retryable, retry_after_s, rung_is_up, said):
                self._close_attempt(ok=None if rung_is_up else False, over=True)
                return fallback_machine.AttemptFailed(
                    kind=code,
                    retryable=retryable,
                    message=message,
                    prefix=self._prefix(attempt),
                    retry_after_s=retry_after_s,
                    rung_is_up=rung_is_up,
                    said=said,
                )
            case Terminate():
                self._cut_on = attempt.rung
                self._cut(notice)
                return None

    def _cut(self, notice: Terminate) -> None:
        self._close_attempt(ok=None)
        if not self._climb.committed:
            self._refuse(Unavailable(notice.code, notice.message, retry_after_s=1.0))
        self._fail(ErrorBody(503, "server_error", notice.code, notice.message, should_retry=True))

    def _too_late(self, attempt: Attempt, now: float) -> fallback_machine.FallbackEvent:
        if now >= self._plan.total_at:
            self._close_attempt(ok=None)
            return fallback_machine.AttemptFailed(kind="total_timeout", retryable=False, prefix=self._prefix(attempt))
        if not attempt.taken:
            self._close_attempt(ok=None)
            return fallback_machine.RungRefused(why="queue_timeout", message="It waited in the queue for too long.")
        self._close_attempt(ok=False)
        kind = "stall" if attempt.output_seen else "ttft_timeout"
        return fallback_machine.AttemptFailed(kind=kind, retryable=False, prefix=self._prefix(attempt))

    # --- what the climb wants -----------------------------------------------------------------------------------

    async def _obey(self, effect: fallback_machine.FallbackEffect | None) -> None:
        while effect is not None:
            match effect:
                case fallback_machine.Try():
                    if not self._climb.committed:
                        self._forget_answer()
                    event = await self._try(effect)
                    now = trio.current_time()
                    effect = self._climb.on(event, now, self._chance()) if event is not None else None
                case fallback_machine.AnswerStatic(text, mark):
                    self._answer(text, mark)
                    return
                case fallback_machine.GiveUp():
                    self._refuse(refusal_of(effect))
                case fallback_machine.Break():
                    self._fail(refusal_of(effect).body)
                    return

    async def _try(self, effect: fallback_machine.Try) -> fallback_machine.FallbackEvent | None:
        """Offer the work; the climb's event if it was not even let in."""
        if effect.not_before > trio.current_time():
            await self._pause(effect.not_before)
        prepared = await self._attempt_factory.attempt(effect)
        if isinstance(prepared, fallback_machine.RungRefused):
            return prepared
        attempt, ended = prepared
        now = trio.current_time()
        self._delivery.first_at = None
        self._attempt = attempt
        if ended:
            self._show(ended, now)
        if not attempt.job.sequences:
            self._close_attempt(ok=None, over=True)
            self._complete(attempt, self._why(attempt), now)
            return None
        until = None if attempt.drafter is None else attempt.drafter.begin(effect.deadline)
        if until is None:
            return self._offer(attempt)
        self._due = until
        self._ports.timers.move(self._watch, self._due)
        return None

    async def _pause(self, until: float) -> None:
        """Between two attempts, before any content. Raises Refusal if the answer is ended meanwhile."""
        self._ports.timers.move(self._watch, until)
        while trio.current_time() < until and not self._delivery.overrun:
            # Outputs that still come are of the attempt before.
            for _, item in await self._delivery.take(quiet=False):
                if isinstance(item, Terminate):
                    self._cut(item)

    def _offer(self, attempt: Attempt) -> fallback_machine.FallbackEvent | None:
        """Let the engine have it; the climb's event if it was not even let in."""
        if attempt.drafter is not None:
            attempt.job = attempt.drafter.job
        try:
            self._ports.dispatch.put_nowait(Enqueue(attempt.job))
        except MailboxFull as full:
            self._close_attempt(ok=None, over=True)
            return fallback_machine.RungRefused(why="queue_full", retry_after_s=1.0, message=str(full))
        self._due = attempt.job.deadline
        self._ports.timers.move(self._watch, self._due)
        return None

    def _close_attempt(self, *, ok: bool | None, over: bool = False, leaving: bool = False) -> None:
        """The attempt in hand is over, for the engine, too, if it does not know yet (`over`: it does).

        `leaving`: because its reader has left or is too slow, who pays for what was begun.
        """
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        made_tokens = attempt.assembly.tokens + attempt.unread_tokens
        self._account.made_tokens += made_tokens
        prompt_tokens = attempt.job.prompt_tokens // self._request.body.n
        if attempt.rung in self._ports.upstreams:
            prompt_tokens = self._account.once(attempt.assembly.prompts) or prompt_tokens
        if ok or (leaving and attempt.taken):
            self._account.pay(attempt.rung, prompt_tokens, attempt.assembly.cached, made_tokens)
        drafter = attempt.drafter
        if drafter is not None:
            drafter.close()
            self._account.made_tokens += drafter.made_tokens
            if drafter.taken and (ok or leaving):
                self._account.pay(drafter.engine, prompt_tokens, {}, drafter.made_tokens)
        if attempt.watched:
            self._margin = attempt.assembly.margin
        if self._ports.recording is not None:
            self._account.observe(attempt.job, attempt.assembly.margins)
        self._drafts = attempt.assembly.drafted, attempt.assembly.accepted
        self._model = attempt.assembly.model or attempt.model
        self._word = attempt.assembly.word or None
        version = attempt.assembly.adapter_version
        self._adapter = f"{attempt.adapter}@{version}" if version else attempt.adapter
        if not over and not (ok and attempt.assembly.why != "low_margin" and attempt.whole_in_engine):
            self._ports.dispatch.put_unbounded(Withdraw(attempt.job))
        self._ports.permits.record(attempt.rung, attempt.permit, ok=ok, is_retry=attempt.is_retry)

    # --- what goes out ------------------------------------------------------------------------------------------

    def _show(self, deltas: list[Delta], now: float) -> None:
        count = self._account.tell(deltas)
        if self._account.first_content_at is None:
            self._account.first_content_at = self._first_content_at(now)
        if not self._request.body.streamed:
            self._whole += deltas
            return
        counters = self._ports.counters
        if self._start_sent:
            if self._request.body.tools is not None or not self._answer_sent:
                self._climb.on(self._content_sent(deltas), now)
            if count > 0:
                counters.itl.add((now - self._last_at) / count)
        else:
            self._start(deltas, now)
        self._last_at = now
        self._events += deltas

    def _first_content_at(self, now: float) -> float:
        """Of a whole answer that was only waited for, content was there long before its reader woke."""
        attempt, first_at = self._attempt, self._delivery.first_at
        if first_at is not None and attempt is not None and attempt.quiet(streamed=self._request.body.streamed):
            return first_at
        return now

    def _content_sent(self, deltas: list[Delta]) -> fallback_machine.ContentSent:
        kind = "tool_calls" if any(delta.calls for delta in deltas) else self._request.body.bound_to
        cascade = self._plan.cascade
        self._answer_sent = self._answer_sent or any(_is_answer(delta) for delta in deltas)
        return fallback_machine.ContentSent(
            answer=self._answer_sent, atomic=kind is not None and (cascade is None or kind in cascade.atomic)
        )

    def _start(self, deltas: list[Delta], now: float) -> None:
        assert self._attempt is not None
        self._start_sent = True
        self._ports.counters.ttft.add(now - self._request.arrived_at)
        self._account.first_at = now
        self._begin(self._attempt, self._account.prompt_tokens)
        self._climb.on(self._content_sent(deltas), now)

    def _begin(self, attempt: Attempt | None, prompt_tokens: int) -> None:
        """`attempt` None: a static answer."""
        request = self._request
        rung, adapter, model = _STATIC, "", ""
        if attempt is not None:
            rung, adapter, model = attempt.rung, attempt.adapter, attempt.assembly.model or attempt.model
        echo = self._attempt_factory.prompts.shown(rung) if request.body.view.echo else ()
        each_choice = tuple([text for text in echo for _ in range(request.body.n)])
        start = Start(
            self._plan.route,
            rung,
            prompt_tokens,
            each_choice,
            adapter,
            self._climb.mark,
            self._degraded(rung),
            self._account.downgraded_to,
            request.body.model,
            model,
        )
        self._events.append(start)

    def _complete(self, attempt: Attempt, why: str, now: float) -> None:
        self._climb.on(fallback_machine.Finished(why), now)
        if not self._request.body.streamed:
            self._begin(attempt, self._account.prompt_tokens)
            self._events += self._whole
        if attempt.rung in self._ports.upstreams and not attempt.job.goes_on:
            self._account.prompts_read(attempt.assembly.prompts)
        self._account.cached_tokens = self._account.once(attempt.assembly.cached)
        self._events.append(Done(self._account.usage(), self._served(attempt.rung, why, self._climb.mark)))

    def _answer(self, text: str, mark: str | None) -> None:
        # What an earlier attempt said for an answer that is handed out whole has reached nobody.
        self._forget_answer()
        self._account.worked = False
        self._adapter = self._model = ""
        self._word = None
        self._account.first_content_at = trio.current_time()
        if self._request.body.streamed:
            self._account.first_at = self._account.first_content_at
        self._begin(None, 0)
        for index in range(len(self._account.told)):
            self._events.append(Delta(index, text, (), (), "stop"))
        why = self._last_trouble() or self._asked()
        self._events.append(Done(Usage(0, 0), self._served(_STATIC, why, mark)))

    def _fail(self, error: ErrorBody) -> None:
        served = self._served(self._history_rung(), error.code, None)
        self._events.append(Failed(error, self._account.usage(), served))

    def _refuse(self, refusal: Refusal) -> NoReturn:
        self._finish("refused", refusal.body.code, refusal.body.status)
        raise refusal

    async def _wait_for_the_ledger(self, booked: Reply[None]) -> None:
        """Nothing is handed out before its line is committed, and nobody waits for that past the deadlines."""
        try:
            with trio.move_on_at(min(self._plan.ttft_at, self._plan.total_at)):
                await booked.wait()
        except ActorDied:
            self._account.entry_id = None
            self._forget_answer()
            self._refuse(ledger_unavailable())
        except BaseException:
            self._forget_answer()
            raise
        if self._ended:
            # Closed by the service meanwhile, and settled.
            raise ledger_unavailable()
        if not booked.settled:
            self._forget_answer()
            self._refuse(ledger_unavailable())
        self._booked = None

    def _forget_answer(self) -> None:
        self._account.forget()
        self._whole = []

    # --- the account of it --------------------------------------------------------------------------------------

    def _prefix(self, attempt: Attempt) -> fallback_machine.Prefix:
        if not self._climb.committed:
            return ()
        text = self._ports.texts.get(attempt.rung)
        return self._account.prefix(text.tokenizer if text is not None else None)

    def _why(self, attempt: Attempt) -> str:
        trouble = self._last_trouble()
        if trouble is not None:
            return trouble
        cascade = self._plan.cascade
        if attempt.watched:
            return attempt.assembly.why
        if attempt.drafter is not None:
            return attempt.drafter.machine.why
        if cascade is not None and cascade.drafts and attempt.rung == cascade.large.to:
            return "small_unavailable"
        return cascade.why if cascade is not None and cascade.why != "default" else self._asked()

    def _asked(self) -> str:
        """Why it was this, if nothing came in between: the client's wish, or what a spent budget left of it."""
        return "asked_for" if BY_BUDGET.isdisjoint(self._plan.degraded) else "budget"

    def _last_trouble(self) -> str | None:
        """Why it is not the first rung that answers."""
        return next((note.why for note in reversed(self._climb.history) if note.outcome != "answered"), None)

    def _history_rung(self) -> str:
        history = self._climb.history
        if self._attempt is not None:
            return self._attempt.rung
        return self._cut_on or (history[-1].rung if history else "")

    def _degraded(self, rung: str) -> tuple[str, ...]:
        return with_the_way(self._plan.degraded, self._climb.history, rung)

    def _served(self, rung: str, why: str, mark: str | None) -> Served:
        notes = tuple([AttemptNote(note.rung, note.outcome, note.why) for note in self._climb.history])
        plan = self._plan
        experiment, arm = (plan.experiment, plan.arm) if plan.arm else (None, None)
        adapter = self._adapter or None
        return Served(
            plan.route,
            rung,
            why,
            notes,
            mark,
            self._margin,
            *self._drafts,
            plan.policy,
            experiment,
            arm,
            adapter,
            self._degraded(rung),
            self._account.downgraded_to,
            self._request.body.model,
            self._model,
            self._word,
        )

    def _finish(self, outcome: str, why: str, status: int) -> None:
        self._ended = True
        rung = self._history_rung()
        if outcome == "gone":
            self._count_unread()
        self._close_attempt(ok=None, leaving=outcome == "gone")
        self._delivery.close()
        self._ports.timers.cancel(self._watch)
        if outcome == "gone" and not self._start_sent:
            # A whole answer that was under way has reached nobody.
            self._account.forget()
        self._account.margin = self._margin
        self._account.adapter = self._adapter
        self._account.degraded = self._degraded(rung)
        self._account.settle(outcome, why, rung, self._climb.history, status)
        self._on_end(self)

    def _count_unread(self) -> None:
        """Work that was begun and tokens that were made are paid for, even if nobody waited to read of them."""
        attempt = self._attempt
        for job_id, item in self._delivery.unread():
            if attempt is None or not attempt.owns(job_id):
                continue
            if isinstance(item, JobStarted):
                self._account.worked = True
            attempt.count(job_id, item)


def _is_answer(delta: Delta) -> bool:
    """It holds more than reasoning."""
    return bool(delta.text or delta.token_ids or delta.logprobs or delta.calls or delta.finish_reason)
