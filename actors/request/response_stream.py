"""One answer in progress: the answer machine's shell, in the task of whoever reads it.

Exactly one end: every way out goes through `_finish`, which ends what runs, settles the reservation, closes the
ledger's entry and counts.
"""

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn

import trio

from actors.api.errors import ErrorBody, Refusal, Unavailable, ledger_unavailable, refusal_of
from actors.api.principal import Principal
from actors.api.request import InferenceRequest
from actors.api.response import DecisionInfo, Delta, Done, Failed, ResponseEvent
from actors.kernel.errors import ActorDied, MailboxFull
from actors.kernel.reply import Reply
from actors.prompt.model_text import ModelText
from actors.prompt.output_constraints import ConstraintsByModel
from actors.prompt.prompt_encoder import PromptEncoder
from actors.protocol.delivery import Delivery, Item
from actors.protocol.outputs import JobFailed, JobOutput, JobRejected, JobStarted, StreamNotice, Terminate
from actors.protocol.queue import Enqueue, Withdraw
from actors.request.account import Account
from actors.request.attempt import Attempt
from actors.request.attempt_factory import AttemptFactory
from actors.request.ports import RequestPorts
from actors.request.request_log import GONE_STATUS
from actors.request.response_builder import ResponseBuilder
from engine.core.messages import TokenDelta
from policies.answer.answer_machine import (
    AnswerEffect,
    AnswerMachine,
    AskPermit,
    Complete,
    EndAttempt,
    ForgetAnswer,
    MachineAttempt,
    OfferJob,
    Pause,
    Prepare,
    RecordOutcome,
    WithdrawJob,
)
from policies.fallback.fallback_machine import AnswerStatic, AttemptFailed, Break, GiveUp, Prefix, RungRefused
from policies.model.plan import Plan


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
        """`booked`: the ledger's reply for the account's entry. `chance`: numbers in 0..1, which spread retries."""
        self._request = request
        self._streamed = request.body.streamed
        self._plan = plan
        self._account = account
        self._booked: Reply[None] | None = booked
        self._shapes = shapes
        self._ports = ports
        self._on_end = on_end
        # No method of its own goes in there: a cycle would leave every answer to the garbage collector.
        client_has = partial(_client_has, account, ports.texts)
        self._machine = AnswerMachine(plan, len(account.told), client_has=client_has, chance=chance)
        self._builder = ResponseBuilder(
            request, plan, prompts=prompts, account=account, machine=self._machine, ports=ports
        )
        self._delivery = Delivery()
        self._attempt_factory = AttemptFactory(
            request, plan, principal, prompts, shapes, account, self._delivery, ports
        )
        self._watch = ports.timers.watch(float("inf"), self._delivery.alarm)
        self._attempt: Attempt | None = None
        """In hand, or the last one."""
        self._started = False
        self._ended = False

    @property
    def decided(self) -> DecisionInfo:
        """By which policy, and in which arm."""
        plan = self._plan
        return DecisionInfo(plan.policy, plan.experiment, plan.arm, self._shapes.passed_over)

    async def next_events(self) -> list[ResponseEvent]:
        """At least one event; none after the last one. Raises Refusal before the first content."""
        if self._ended:
            return []
        builder, machine = self._builder, self._machine
        if not self._started:
            self._started = True
            machine.start(trio.current_time())
            await self._carry_out()
        while not builder.events:
            attempt = self._attempt
            assert attempt is not None
            items = await self._delivery.take(quiet=attempt.quiet(streamed=self._streamed))
            self._absorb(attempt, items, trio.current_time())
            if machine.has_effects:
                await self._carry_out()
        if self._booked is not None:
            await self._wait_for_the_ledger(self._booked)
        events, builder.events = builder.events, []
        match events[-1]:
            case Done(served=served):
                self._finish("ok", served.why, 200)
            case Failed(error=error):
                outcome = "overrun" if error.code == "slow_reader" else "failed"
                self._finish(outcome, error.code, 200 if builder.started else error.status)
        return events

    def close(self) -> None:
        """Synchronous, idempotent. What still runs is aborted, and what was delivered is settled."""
        if not self._ended:
            self._finish("gone", "client_gone", GONE_STATUS)

    def cut(self, code: str, message: str) -> None:
        """End it from outside, truthfully."""
        self._delivery.say(0, Terminate(code, message))

    # --- what comes in ------------------------------------------------------------------------------------------

    def _absorb(self, attempt: Attempt, items: list[Item], now: float) -> None:
        """Tell the machine what has come, and what time it is."""
        machine, of, drafter = self._machine, attempt.of, attempt.drafter
        for position, (job_id, item) in enumerate(items, 1):
            if drafter is not None and drafter.owns(job_id):
                waited = drafter.waiting
                self._account.worked = self._account.worked or isinstance(item, JobStarted)
                drafter.take(item)
                if waited and not drafter.waiting:
                    machine.draft_ready()
            elif isinstance(item, JobOutput):
                if job_id == attempt.job.job_id:
                    self._output(attempt, item, now)
            elif job_id in {attempt.job.job_id, 0}:
                self._notice(item, now)
            if machine.attempt is not of:
                # It is over. What has come since concerns the next one, or nobody.
                self._delivery.put_back(items[position:])
                return
        if self._delivery.overrun:
            self._stop(client_left=True)
            error = ErrorBody(503, "server_error", "slow_reader", "The answer was cut: it was read too slowly.")
            self._builder.fail(error)
            return
        if drafter is not None and drafter.waiting and now >= machine.due:
            drafter.hurry()
            machine.draft_ready()
        else:
            machine.on_deadline(now)
        self._ports.timers.move(self._watch, machine.due)

    def _output(self, attempt: Attempt, output: JobOutput, now: float) -> None:
        machine, assembly, drafter = self._machine, attempt.assembly, attempt.drafter
        machine.on_output(now)
        if drafter is not None and isinstance(output, TokenDelta) and output.finish is None:
            drafter.said(output.token_ids, self._plan.total_at)
        shown: list[Delta] = []
        verdict = assembly.feed(output, shown)
        if shown:
            self._show(attempt, shown, now)
        match verdict:
            case "going":
                pass
            case "complete":
                draft_reason = "" if drafter is None else drafter.machine.why
                machine.on_complete(
                    now, ended=attempt.whole_in_engine, cascade_reason=assembly.why, draft_reason=draft_reason
                )
            case "escalate":
                self._ports.counters.escalations[self._plan.route, assembly.why] += 1
                machine.on_escalated(assembly.why, now)
            case "broken":
                broken = assembly.broken
                assert broken is not None
                if broken.code == "adapter_not_loaded":
                    # It was unloaded between our look and the engine's.
                    refused = RungRefused(why=broken.code, message=broken.message, lasting=True)
                    machine.on_refused_by_engine(refused, now)
                    return
                fatal = broken.reason == "error"
                failed = AttemptFailed(
                    kind=broken.code or "aborted", retryable=False, fatal=fatal, message=broken.message
                )
                machine.on_failed(failed, now, ok=None, ended=False)

    def _notice(self, notice: StreamNotice, now: float) -> None:
        machine = self._machine
        match notice:
            case JobStarted(at):
                machine.on_started()
                self._account.worked = True
                self._account.taken_at = self._account.taken_at or at
                self._ports.counters.queue_wait.add(max(at - self._request.arrived_at, 0.0))
            case JobRejected(why, message, retry_after_s, lasting, said):
                refused = RungRefused(why=why, retry_after_s=retry_after_s, message=message, lasting=lasting, said=said)
                machine.on_rejected(refused, now)
            case JobFailed(code, message, retryable, retry_after_s, rung_is_up, said):
                failed = AttemptFailed(
                    kind=code,
                    retryable=retryable,
                    message=message,
                    retry_after_s=retry_after_s,
                    rung_is_up=rung_is_up,
                    said=said,
                )
                machine.on_failed(failed, now, ok=None if rung_is_up else False, ended=True)
            case Terminate():
                self._terminate(notice)

    def _terminate(self, notice: Terminate) -> None:
        self._stop()
        if not self._machine.committed:
            self._refuse(Unavailable(notice.code, notice.message, retry_after_s=1.0))
        self._builder.fail(ErrorBody(503, "server_error", notice.code, notice.message, should_retry=True))

    # --- what the machine wants -----------------------------------------------------------------------------------

    async def _carry_out(self) -> None:
        """Raises Refusal."""
        machine = self._machine
        for effect in machine.effects():
            match effect:
                case AskPermit(rung, is_retry):
                    answer = await self._ports.permits.ask(rung, is_retry=is_retry)
                    machine.on_permit(answer, trio.current_time())
                case Prepare(of):
                    await self._prepare(of)
                case Pause(until):
                    await self._pause(until)
                    machine.resumed()
                case _:
                    self._carry_out_now(effect)

    def _carry_out_now(self, effect: AnswerEffect) -> None:
        """Whatever does not wait. Raises Refusal."""
        attempt = self._attempt
        match effect:
            case ForgetAnswer():
                self._builder.forget()
            case OfferJob():
                self._offer()
            case EndAttempt(_, ok, client_left):
                self._end_attempt(ok=ok, client_left=client_left)
            case WithdrawJob():
                assert attempt is not None
                self._ports.dispatch.put_unbounded(Withdraw(attempt.job))
            case RecordOutcome(rung, permit, ok, is_retry):
                self._ports.permits.record(rung, permit, ok=ok, is_retry=is_retry)
            case Complete(_, reason):
                assert attempt is not None
                self._builder.complete(attempt, reason)
            case AnswerStatic():
                self._builder.answer(effect, trio.current_time())
            case GiveUp():
                self._refuse(refusal_of(effect))
            case Break():
                self._builder.fail(refusal_of(effect).body)
            case _:
                raise AssertionError(f"{effect} waits")

    async def _prepare(self, of: MachineAttempt) -> None:
        prepared = await self._attempt_factory.attempt(of)
        now = trio.current_time()
        if isinstance(prepared, RungRefused):
            self._machine.on_rejected(prepared, now)
            return
        if self._ended:
            return
        self._attempt, ended = prepared
        self._delivery.first_at = None
        if ended:
            self._show(self._attempt, ended, now)
        if not self._attempt.job.sequences:
            self._machine.on_nothing_left(of, now)
            return
        drafter = self._attempt.drafter
        until = None if drafter is None else drafter.begin(of.wanted.deadline)
        self._machine.prepared(of, draft_until=until)
        if until is not None:
            self._ports.timers.move(self._watch, until)

    async def _pause(self, until: float) -> None:
        """Between two attempts. Raises Refusal if the answer is ended meanwhile."""
        self._ports.timers.move(self._watch, until)
        while trio.current_time() < until and not self._delivery.overrun and not self._builder.events:
            # Outputs that still come are of the attempt before.
            for _, item in await self._delivery.take(quiet=False):
                if isinstance(item, Terminate):
                    self._terminate(item)

    def _offer(self) -> None:
        attempt = self._attempt
        assert attempt is not None
        if attempt.drafter is not None:
            attempt.job = attempt.drafter.job
        try:
            self._ports.dispatch.put_nowait(Enqueue(attempt.job))
        except MailboxFull as full:
            refused = RungRefused(why="queue_full", retry_after_s=1.0, message=str(full))
            self._machine.on_rejected(refused, trio.current_time())
        else:
            self._ports.timers.move(self._watch, self._machine.due)

    def _end_attempt(self, *, ok: bool | None, client_left: bool) -> None:
        """Charge it and keep what is told of it. A client that leaves, or reads too slowly, pays for what was begun."""
        attempt, account = self._attempt, self._account
        assert attempt is not None
        assembly, drafter = attempt.assembly, attempt.drafter
        made_tokens = assembly.tokens + attempt.unread_tokens
        account.made_tokens += made_tokens
        prompt_tokens = attempt.job.prompt_tokens // self._request.body.n
        if attempt.rung in self._ports.upstreams:
            prompt_tokens = account.once(assembly.prompts) or prompt_tokens
        if ok or (client_left and attempt.of.has_started):
            account.pay(attempt.rung, prompt_tokens, assembly.cached, made_tokens)
        if drafter is not None:
            drafter.close()
            account.made_tokens += drafter.made_tokens
            if drafter.taken and (ok or client_left):
                account.pay(drafter.engine, prompt_tokens, {}, drafter.made_tokens)
        if self._ports.recording is not None:
            account.observe(attempt.job, assembly.margins)
        self._builder.attempt_ended(attempt)

    # --- what goes out ------------------------------------------------------------------------------------------

    def _show(self, attempt: Attempt, deltas: list[Delta], now: float) -> None:
        first_at = self._delivery.first_at
        if first_at is None or not attempt.quiet(streamed=self._streamed):
            # Else it was only waited for: there was content long before its reader woke.
            first_at = now
        self._builder.show(deltas, attempt, first_at, now)

    def _refuse(self, refusal: Refusal) -> NoReturn:
        self._finish("refused", refusal.body.code, refusal.body.status)
        raise refusal

    async def _wait_for_the_ledger(self, booked: Reply[None]) -> None:
        """Nothing is handed out before its entry is committed, and nobody waits for that past the deadlines."""
        try:
            with trio.move_on_at(min(self._plan.ttft_at, self._plan.total_at)):
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
        self._machine.stop(client_left=client_left)
        for effect in self._machine.effects():
            self._carry_out_now(effect)

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
            # A whole answer that was under way has reached nobody.
            account.forget()
        account.margin = builder.margin
        account.adapter = builder.adapter
        account.degraded = builder.degraded(rung)
        account.settle(outcome, why, rung, self._machine.history, status)
        self._on_end(self)

    def _count_unread(self) -> None:
        """Work that was begun and tokens that were made are paid for, even if nobody waited to read of them."""
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
