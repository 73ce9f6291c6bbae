"""One answer in progress: the answer machine's shell, in the task that reads it.

However the answer ends, `_finish` is called exactly once: it ends the current attempt, settles the reservation, closes
the ledger's entry and counts.
"""

import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NoReturn

import msgspec
import structlog
import trio

from actors.api.errors import TOO_BUSY, ErrorBody, Refusal, Unavailable, ledger_unavailable, refusal_of
from actors.api.request import Principal
from actors.api.response import DecisionInfo, Delta, Done, Failed, ResponseEvent
from actors.kernel.actor import Reply
from actors.kernel.errors import ActorDied, MailboxFull
from actors.prompt.model_text import ModelText
from actors.prompt.request_text import RequestText
from actors.protocol.delivery import Delivery, JobOutput, JobStarted, Terminate
from actors.protocol.job import Enqueue, Withdraw
from actors.protocol.ledger import Delivered
from actors.request.account import Account
from actors.request.attempt import Attempt
from actors.request.attempt_factory import AttemptFactory
from actors.request.attempt_input import AttemptInput
from actors.request.request_log import GONE_STATUS
from actors.request.response_builder import ResponseBuilder
from actors.request.text_judge import readable
from policies.answer.answer_effects import (
    AnswerEffect,
    Complete,
    EndAttempt,
    ForgetAnswer,
    JudgeAnswer,
    MachineAttempt,
    OfferJob,
    Pause,
    Prepare,
    RecordOutcome,
    RequestPermit,
    WithdrawJob,
)
from policies.answer.answer_machine import AnswerMachine
from policies.fallback.fallback_machine import AnswerStatic, Break, GiveUp, Prefix, RungRefused

_MERGED_WITHIN_S = 0.005
"""Content that comes sooner after the last waits for the reader's task, where it is merged with what comes meanwhile:
at such rates fewer events cost less than a task switch for each."""
log = structlog.get_logger()


class EventSink(msgspec.Struct, frozen=True):
    """Sends events at once, if the client reads them."""

    is_ready: Callable[[], bool]
    """Whether everything before was sent."""
    emit: Callable[[list[ResponseEvent]], bool]
    """False: a part could not be sent now. `flush` sends it."""
    flush: Callable[[], Awaitable[None]]


class ResponseStream:
    """Call `next_events` until `Done` or `Failed`, and `close` in any case."""

    def __init__(
        self,
        account: Account,
        *,
        principal: Principal,
        text: RequestText,
        booked: Reply[None],
        on_end: "Callable[[ResponseStream], None]",
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`booked`: the ledger's reply for the account's entry. `chance`: numbers in 0..1, which spread retries."""
        self.entry_id = account.entry_id
        """Of the ledger."""
        self._account = account
        self._booked: Reply[None] | None = booked
        self._text = text
        self._ports = ports = account.ports
        self._clock = ports.clock
        self._on_end = on_end
        # Without a method of this object: a reference cycle would leave every answer to the garbage collector.
        client_has = partial(_client_has, account, ports.texts)
        self._machine = machine = AnswerMachine(
            account.plan, len(account.emitted), client_has=client_has, chance=chance
        )
        self._builder = builder = ResponseBuilder(account, text, machine)
        self._delivery = delivery = Delivery()
        self._watch = watch = ports.timers.watch(float("inf"), delivery.alarm)
        self._input = AttemptInput(account, machine=machine, builder=builder, delivery=delivery, watch=watch)
        self._attempt_factory = AttemptFactory(account, principal, text, delivery)
        self._attempt: Attempt | None = None
        """The current or the last one."""
        self._sink: EventSink | None = None
        self.on_held_back: Callable[[], None] | None = None
        """Called once, if content is being made of which nothing is shown before it is whole: a tool call."""
        self._guardrails: Callable[[str], Awaitable[None]] | None = None
        self._held = False
        """Nothing is sent before the guardrails have read it."""
        self._failure: Exception | None = None
        """Raised while an output was taken in another task."""
        self._unflushed = False
        self._started = False
        self._ended = False

    @property
    def decided(self) -> DecisionInfo:
        plan = self._account.plan
        return DecisionInfo(plan.policy, plan.experiment, plan.arm, self._text.passed_over)

    def emit_through(self, sink: EventSink) -> None:
        """Give plain content to `sink` as it comes, in the task that brings it: no task switch for each event.

        From the beginning of the content on, while this stream's reader waits in `next_events`.
        """
        if not self._ended:
            self._sink = sink
            self._delivery.take_now = self._take_now

    def guard(self, check: Callable[[str], Awaitable[None]], *, held: bool) -> None:
        """Pass the whole answer to `check` before its end, and with `held` before any of it is sent.

        `check` raises Refusal, which ends the answer. Before `next_events`.
        """
        begun = self._account.request.begun
        self._guardrails, self._builder.read = check, {}
        for event in () if begun is None else begun.events:
            if isinstance(event, Delta):
                self._builder.read.setdefault(event.index, []).append(readable(event))
        # What an earlier process has sent without the guardrail cannot be held any more.
        self._held = held and not (begun is not None and begun.events)
        self._builder.streamed = self._builder.streamed and not self._held

    def when_started(self, call: Callable[[], None]) -> None:
        """Call it each time a backend begins to work on the answer; it must neither wait nor raise."""
        self._delivery.on_started = call

    async def next_events(self) -> list[ResponseEvent]:
        """At least one event; none after the last one. Raises Refusal before the first content."""
        if self._ended:
            return []
        builder, machine = self._builder, self._machine
        if not self._started:
            self._started = True
            begun = self._account.request.begun
            if begun is not None and begun.events:
                machine.go_on(builder.take_over(begun.events), self._clock())
            else:
                machine.start(self._clock())
        while True:
            if machine.effects:
                await self._carry_out()
            if builder.events:
                break
            attempt = self._attempt
            assert attempt is not None
            items = await self._delivery.take(quiet=attempt.quiet(streamed=builder.streamed))
            if self._failure is not None:
                self._delivery.put_back(items)
                raise self._failure
            terminate = self._input.absorb(attempt, items, self._clock())
            if self.on_held_back is not None and attempt.assembly.holds_back and not builder.events:
                held_back, self.on_held_back = self.on_held_back, None
                held_back()
            if terminate is not None:
                self._terminate(terminate)
            elif self._delivery.overrun and machine.attempt is attempt.of:
                self._cut_off()
            if self._unflushed and self._sink is not None:
                # Only now: if it fails, what has come is accounted for.
                self._unflushed = False
                await self._sink.flush()
        if self._booked is not None:
            await self._wait_for_the_ledger(self._booked)
        events, builder.events = builder.events, []
        match events[-1]:
            case Done(served=served):
                if self._guardrails is not None and (instead := await self._refused(self._guardrails)) is not None:
                    return instead
                self._finish("ok", served.why, 200)
            case Failed(error=error):
                outcome = "overrun" if error.code == "slow_reader" else "failed"
                self._finish(outcome, error.code, 200 if builder.started else error.status)
        return events

    @property
    def delivered(self) -> Delivered:
        """What was delivered so far, and what that costs."""
        return self._account.delivered(self._machine.rung, ended=self._ended)

    def sent(self) -> Delivered | None:
        """What the client has of an answer that goes on, and what that costs; None: nothing."""
        return self.delivered if self._builder.started and not self._ended else None

    def close(self) -> None:
        """Synchronous, idempotent. A running attempt is aborted, and what was delivered is settled."""
        if not self._ended:
            self._finish("gone", "client_gone", GONE_STATUS)

    def cut(self, code: str, message: str) -> None:
        """End it from outside, with this error."""
        self._delivery.notify(0, Terminate(code, message))

    def _take_now(self, job_id: int, output: JobOutput) -> bool:
        """Take in one output without the reader's task; False: that is not possible now."""
        builder, now = self._builder, self._clock()
        if now - builder.last_at < _MERGED_WITHIN_S:
            return False
        sink, attempt, machine = self._sink, self._attempt, self._machine
        if (
            sink is None
            or attempt is None
            or attempt.drafter is not None
            or machine.attempt is not attempt.of
            or not builder.started
            or builder.events
            or self._booked is not None
            or not sink.is_ready()
        ):
            return False
        try:
            self._input.absorb(attempt, [(job_id, output)], now)
            if builder.events:
                events, builder.events = builder.events, []
                self._unflushed = not sink.emit(events)
        except Exception as error:  # noqa: BLE001  (it is raised in the reader's task)
            self._failure = error
        if self._failure is not None or self._unflushed or machine.effects:
            self._delivery.alarm()
        return True

    def _cut_off(self) -> None:
        self._stop(client_left=True)
        error = ErrorBody(503, "server_error", "slow_reader", "The answer was cut: it was read too slowly.")
        self._builder.fail(error)

    def _terminate(self, notice: Terminate) -> None:
        self._stop()
        if not self._machine.committed:
            self._refuse(Unavailable(notice.code, notice.message, retry_after_s=1.0))
        self._builder.fail(ErrorBody(503, "server_error", notice.code, notice.message, should_retry=True))

    # --- effects of the machine -----------------------------------------------------------------------------------

    async def _carry_out(self) -> None:
        """Raises Refusal."""
        machine = self._machine
        while machine.effects:
            effect = machine.effects.popleft()
            match effect:
                case RequestPermit(rung, is_retry):
                    answer = await self._ports.permits.ask(rung, is_retry=is_retry)
                    if isinstance(answer, RungRefused):
                        machine.on_rejected(answer, self._clock())
                    else:
                        machine.on_permit(answer)
                case Prepare(of):
                    await self._prepare(of)
                case Pause(until):
                    await self._pause(until)
                    machine.resumed()
                case JudgeAnswer(of, until):
                    await self._have_judged(of, until)
                case _:
                    self._carry_out_now(effect)

    def _carry_out_now(self, effect: AnswerEffect) -> None:
        """Effects that do not wait. Raises Refusal."""
        attempt = self._attempt
        # The four of a usual answer first.
        match effect:
            case OfferJob():
                self._offer()
            case EndAttempt(_, ok, client_left):
                assert attempt is not None
                if attempt.drafter is not None:
                    attempt.drafter.close()
                self._builder.attempt_ended(attempt, ok=ok, client_left=client_left)
            case RecordOutcome(rung, permit, ok, is_retry, ttft_s):
                if self._account.request.batch is not None:
                    # It waits for others, not for a slow rung.
                    ttft_s = None
                self._ports.permits.record(rung, permit, ok=ok, is_retry=is_retry, ttft_s=ttft_s)
            case Complete(_, reason):
                assert attempt is not None
                self._builder.complete(attempt, reason)
            case ForgetAnswer():
                self._builder.forget()
            case WithdrawJob():
                assert attempt is not None
                self._ports.dispatch.put_unbounded(Withdraw(attempt.job))
            case AnswerStatic():
                self._builder.answer(effect, self._clock())
            case GiveUp():
                self._refuse(refusal_of(effect))
            case Break():
                self._builder.fail(refusal_of(effect).body)
            case _:
                raise AssertionError(f"{effect} waits")

    async def _prepare(self, of: MachineAttempt) -> None:
        prepared = await self._attempt_factory.attempt(of)
        if isinstance(prepared, RungRefused):
            self._machine.on_rejected(prepared, self._clock())
            return
        if self._ended:
            return
        self._attempt, ended = prepared
        self._delivery.first_at = None
        if ended:
            self._input.show(self._attempt, ended, self._clock())
        if not self._attempt.job.sequences:
            self._machine.on_nothing_left(of, self._clock())
            return
        drafter = self._attempt.drafter
        until = None if drafter is None else drafter.begin(of.wanted.deadline)
        self._machine.prepared(of, draft_until=until)
        if until is not None:
            self._ports.timers.move(self._watch, until)

    async def _have_judged(self, of: MachineAttempt, until: float) -> None:
        attempt, cascade, account = self._attempt, self._account.plan.cascade, self._account
        if self._machine.attempt is not of:
            # It has failed after its last token.
            return
        assert attempt is not None
        assert cascade is not None
        assert cascade.judge is not None
        holds: float | None = None
        try:
            with trio.move_on_at(until):
                holds = await self._ports.judge.answer_holds(
                    cascade.judge, attempt.assembly.answers, request=account.request
                )
        except Refusal as refusal:
            log.warning("answer_not_judged", request_id=account.request.request_id, error=refusal.body.message)
        if not self._ended and self._machine.attempt is of:
            account.judged = holds
            self._input.judged(attempt, holds, self._clock())

    async def _refused(self, check: Callable[[str], Awaitable[None]]) -> list[ResponseEvent] | None:
        """What the client gets instead of the answer's end; None: guardrails let it pass.

        The work is charged. Raises the refusal if nothing of the answer was sent.
        """
        builder = self._builder
        refusal: Refusal | None = None
        answer = "\n\n".join(["".join(parts) for _, parts in sorted((builder.read or {}).items())])
        try:
            with trio.move_on_at(self._account.plan.total_at) as scope:
                await check(answer)
            if scope.cancelled_caught and self._held:
                message = "The guardrails did not judge the answer in time."
                refusal = Unavailable("guardrail_failed", message, 1.0)
        except Refusal as error:
            refusal = error
        if self._ended:
            # Closed meanwhile, and settled.
            return []
        if refusal is None:
            return None
        if not builder.started:
            builder.forget()
            self._finish("failed", refusal.body.code, refusal.body.status)
            raise refusal
        builder.fail(refusal.body)
        events, builder.events = builder.events, []
        self._finish("failed", refusal.body.code, 200)
        return events

    async def _pause(self, until: float) -> None:
        """Pause between two attempts. Raises Refusal if the answer is ended meanwhile."""
        self._ports.timers.move(self._watch, until)
        while self._clock() < until and not self._delivery.overrun and not self._builder.events:
            # Outputs that come now are of the previous attempt.
            for _, item in await self._delivery.take(quiet=False):
                if isinstance(item, Terminate):
                    self._terminate(item)

    def _offer(self) -> None:
        attempt = self._attempt
        assert attempt is not None
        if attempt.drafter is not None:
            attempt.job = attempt.drafter.job
        dispatch, message = self._ports.dispatch, Enqueue(attempt.job)
        try:
            if not dispatch.handle_now(message):
                dispatch.put_nowait(message)
        except MailboxFull:
            refused = RungRefused(why="queue_full", retry_after_s=1.0, message=TOO_BUSY)
            self._machine.on_rejected(refused, self._clock())
        else:
            self._ports.timers.move(self._watch, self._machine.due)

    # --- refusals and the ledger ----------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> NoReturn:
        self._finish("refused", refusal.body.code, refusal.body.status)
        raise refusal

    async def _wait_for_the_ledger(self, booked: Reply[None]) -> None:
        """No event is returned before the ledger's entry is committed; the deadlines bound the wait."""
        try:
            if booked.settled:
                await booked.wait()
            else:
                with trio.move_on_at(min(self._account.plan.ttft_at, self._account.plan.total_at)):
                    await booked.wait()
        except ActorDied:
            self._account.entry_id = None
            self._builder.forget()
            self._refuse(ledger_unavailable())
        except BaseException:
            self._builder.forget()
            raise
        if self._ended:
            # Closed by the service meanwhile, and settled.
            raise ledger_unavailable()
        if not booked.settled:
            self._builder.forget()
            self._refuse(ledger_unavailable())
        self._booked = None

    # --- the end --------------------------------------------------------------------------------------------------

    def _stop(self, *, client_left: bool = False) -> None:
        machine = self._machine
        machine.stop(client_left=client_left)
        while machine.effects:
            self._carry_out_now(machine.effects.popleft())

    def _finish(self, outcome: str, why: str, status: int) -> None:
        self._ended = True
        gone = outcome == "gone"
        if gone:
            self._count_unread()
        self._stop(client_left=gone)
        self._delivery.close()
        self._ports.timers.cancel(self._watch)
        account, builder, rung = self._account, self._builder, self._machine.rung
        if gone and not builder.started:
            # Of an answer that is not streamed the client has received nothing.
            account.forget()
        account.degraded = self._machine.degraded(rung)
        account.settle(outcome, why, rung, self._machine.history, status)
        self._on_end(self)

    def _count_unread(self) -> None:
        """Count the outputs that the reader left unread: they are charged."""
        attempt = self._attempt
        if attempt is None or self._machine.attempt is None:
            return
        for job_id, item in self._delivery.unread():
            if attempt.owns(job_id):
                self._account.worked = self._account.worked or isinstance(item, JobStarted)
                attempt.count(job_id, item)


def _client_has(account: Account, texts: Mapping[str, ModelText], rung: str) -> Prefix:
    text = texts.get(rung)
    return account.prefix(text.tokenizer if text is not None else None)
