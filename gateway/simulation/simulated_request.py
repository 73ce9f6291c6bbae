"""One request on the virtual clock: drives the `AnswerMachine`, as the server's `ResponseStream` does.

Fallback, cascade, breakers, retry budget, deadlines and queues are the service's own. Only the engines' times and
output are simulated: step times from the profile, lengths and margins from the trace.
"""

from collections.abc import Callable
from functools import partial

from config.model.words import STATIC_ANSWER
from config.tenants import tenant_queue_name
from gateway.simulation.replayed_sequence import ReplayedSequence
from gateway.simulation.simulated_attempt import TOKEN, SimulatedAttempt
from gateway.simulation.simulated_queue import SimulatedJob
from gateway.simulation.simulated_service import SimulatedService
from gateway.simulation.simulated_upstream import prompt_steps
from policies.admission.budget import BudgetHold
from policies.admission.quota import Reservation
from policies.answer import answer_effects as effects
from policies.answer.answer_machine import AnswerMachine
from policies.fallback.breaker import BreakerOpen
from policies.fallback.fallback_machine import AnswerStatic, Break, GiveUp, Prefix, RungRefused
from policies.model.features import Features
from policies.model.load import Permit
from policies.model.plan import AttemptRecord, Plan
from policies.records.trace import TraceRequest
from policies.routing.token_budget import tokens_at

_BYTES_PER_TOKEN = 4


class SimulatedRequest:
    """One answer in progress, and its results when it has ended."""

    def __init__(
        self,
        service: SimulatedService,
        number: int,
        request: TraceRequest,
        features: Features,
        on_end: Callable[["SimulatedRequest", float], None],
    ) -> None:
        """`number`: index in the trace. `on_end` is called once, with this request and the time."""
        self._service = service
        self._on_end = on_end
        self.number = number
        self.request = request
        self.features = features
        self.arrived_at = request.at
        self.plan: Plan | None = None
        self.reservation: Reservation | None = None
        self.hold: BudgetHold | None = None
        self.held = 0.0
        """The amount reserved in the cascade's daily budget."""
        self._machine: AnswerMachine
        self._attempt: SimulatedAttempt
        """The current or last attempt."""
        self._streamed = not request.has or "stream" in request.has
        self._released = 0
        """Tokens of the first choice that the client has received."""
        self.attempts: list[tuple[str, int, int, int]] = []
        """(rung, prompt tokens, output tokens, cached prompt tokens) of attempts that did not fail."""
        self.queue_wait_s: float | None = None
        self.first_at: float | None = None
        """When the client received the first content."""
        self.first_content_at: float | None = None
        """When the first content was generated, whether or not it was sent at once."""
        self.ended_at = 0.0
        self.outcome = ""
        """"ok", "failed" or "refused"."""
        self.code = ""
        self.retry_after_s: float | None = None
        """Of a refusal."""
        self.rung = ""
        self.mark = ""
        self.shown = 0
        """Output tokens of all choices that the client received."""

    @property
    def escalated(self) -> bool:
        return any(note.outcome == "escalated" for note in self.history)

    @property
    def history(self) -> tuple[AttemptRecord, ...]:
        """See `FallbackMachine`; empty without a plan."""
        return self._machine.history if self.plan is not None else ()

    def start(self, plan: Plan, now: float) -> None:
        self.plan = plan
        self._service.active += 1
        self._machine = AnswerMachine(plan, self.request.choices, client_has=self._client_has)
        self._machine.start(now)
        self._carry_out(now)

    def refuse(self, code: str, now: float) -> None:
        self._end("refused", code, now)

    def on_started(self, attempt: SimulatedAttempt, now: float) -> None:
        if attempt.of is self._machine.attempt:
            self._machine.on_started(now)
        if self.queue_wait_s is None:
            self.queue_wait_s = now - self.arrived_at

    def on_rejected(self, attempt: SimulatedAttempt, event: RungRefused, now: float) -> None:
        """The queue was full, or the attempt has waited too long."""
        if attempt.of is self._machine.attempt:
            self._machine.on_rejected(event, now)
            self._carry_out(now)

    def on_stop(self, attempt: SimulatedAttempt, sequence: ReplayedSequence, now: float) -> None:
        if attempt.of is not self._machine.attempt:
            return
        reason = ""
        if attempt.of.cascade is None:
            self._show(attempt, now, sequence, sequence.generated)
            sequence.stop = sequence.end
        else:
            reason = attempt.feed(attempt.of.cascade, sequence, partial(self._show, attempt, now))
            if reason == "escalate":
                self._machine.on_escalated("low_margin", now)
                self._carry_out(now)
                return
            if not sequence.finished:
                sequence.stop = attempt.next_stop(sequence)
        if sequence.finished:
            attempt.unfinished -= 1
            if not attempt.unfinished:
                self._service.backend_queues[attempt.of.rung].finished(attempt.job)
                self._machine.on_complete(now, ended=True, cascade_reason=reason)
                self._carry_out(now)

    def on_alarm(self, attempt: SimulatedAttempt, now: float) -> None:
        machine = self._machine
        if attempt.of is not machine.attempt:
            return
        self._service.backend_queues[attempt.of.rung].catch_up(now)
        output_at = attempt.last_output_at
        if output_at is not None:
            machine.on_output(output_at)
        machine.on_deadline(now)
        if attempt.of is machine.attempt:
            self._wake(attempt)
        else:
            self._carry_out(now)

    def _carry_out(self, now: float) -> None:
        machine, service = self._machine, self._service
        while machine.effects:
            effect = machine.effects.popleft()
            match effect:
                case effects.ForgetAnswer():
                    self.first_content_at = None
                case effects.Pause(until):
                    service.wake(until, self._resume)
                case effects.RequestPermit(rung, is_retry):
                    answer = self._permit(rung, now, is_retry=is_retry)
                    if isinstance(answer, RungRefused):
                        machine.on_rejected(answer, now)
                    else:
                        machine.on_permit(answer)
                case effects.Prepare(of):
                    self._prepare(of, now)
                case effects.OfferJob():
                    service.backend_queues[self._attempt.of.rung].offer(self._attempt.job, now)
                    if self._attempt.of is machine.attempt:
                        self._wake(self._attempt)
                case effects.EndAttempt(_, ok):
                    self._end_attempt(self._attempt, now, ok=ok)
                case effects.WithdrawJob():
                    service.backend_queues[self._attempt.of.rung].withdraw(self._attempt.job, now)
                case effects.RecordOutcome(rung, permit, ok, is_retry, ttft_s):
                    if is_retry:
                        service.retries.give_back()
                    service.breakers[rung].record(permit, ok, now, ttft_s)
                case effects.Complete(_, reason):
                    self._complete(self._attempt, reason, now)
                case AnswerStatic(mark=mark):
                    self.rung, self.mark = STATIC_ANSWER, mark or ""
                    self.first_at = self.first_content_at = now
                    self._end("ok", STATIC_ANSWER, now)
                case GiveUp(code=code, retry_after_s=retry_after_s):
                    self.retry_after_s = retry_after_s
                    self._end("refused", code, now)
                case Break(code=code):
                    self._end("failed", code, now)

    def _resume(self, now: float) -> None:
        self._machine.resumed()
        self._carry_out(now)

    def _permit(self, rung: str, now: float, *, is_retry: bool) -> Permit | RungRefused:
        service = self._service
        if rung not in service.backend_queues:
            return RungRefused(why="not_simulated")
        if is_retry and not service.retries.take():
            return RungRefused(why="retry_budget")
        permit = service.breakers[rung].permit(now)
        if isinstance(permit, BreakerOpen):
            if is_retry:
                service.retries.give_back()
            return RungRefused(why="breaker_open", retry_after_s=permit.retry_after_s)
        return permit

    def _prepare(self, of: effects.MachineAttempt, now: float) -> None:
        service, request, plan, wanted = self._service, self.request, self.plan, of.wanted
        assert plan is not None
        prefix = len(wanted.prefix[0]) if wanted.prefix else 0
        longest = service.backend_queues[of.rung].max_model_len
        room = longest - request.prompt_tokens
        limited = tokens_at(request.max_tokens, plan.output_cap, room)
        if limited is None or prefix >= room:
            self._machine.on_rejected(RungRefused(why="prompt_too_long", lasting=True), now)
            return
        output_tokens = limited or room
        # The small model's answer may have been longer than the one that the client received after an escalation.
        length = max(request.output_tokens, len(request.margins)) if wanted.watched else request.output_tokens
        output = min(length, output_tokens) - prefix
        attempt = self._attempt = SimulatedAttempt(of, plan.cascade)
        if output < 1:
            self._machine.on_nothing_left(of, now)
            return
        if of.cascade is not None:
            assert plan.cascade is not None
            attempt.margins = service.draws.margins(self.number, request, plan.cascade, output)
            attempt.escalates_at = attempt.margins.escalates_at(plan.cascade, output)
        tier = service.settings.tiers[self.features.tier]
        tenant = self.features.tenant
        tenant_queue = tenant_queue_name(tenant, service.tenants[tenant], self.features.tier)
        prompt = request.prompt_tokens + prefix
        upstream = service.upstreams.get(of.rung)
        begin = prompt if upstream is None else prompt_steps(upstream) + prefix
        limit = min(request.prompt_tokens + output_tokens, longest)
        for choice in range(request.choices):
            sequence = ReplayedSequence(
                choice,
                partial(self.on_stop, attempt),
                number=service.next_number(),
                priority=tier.priority,
                tenant=(service.salts[tenant], tenant_queue),
                request=(self.number, request),
                prompt_tokens=begin,
                output_tokens=output,
                limit=limit if upstream is None else begin + output_tokens,
            )
            attempt.sequences.append(sequence)
            attempt.fed.append(0)
            if of.cascade is not None:
                sequence.stop = attempt.next_stop(sequence)
        attempt.unfinished = request.choices
        attempt.prompt_tokens = prompt
        attempt.job = SimulatedJob(
            job_id=service.next_number(),
            tenant=tenant_queue,
            prompt_tokens=prompt * request.choices,
            tokens=(prompt + output_tokens - prefix) * request.choices,
            bytes=request.prompt_tokens * _BYTES_PER_TOKEN,
            deadline=wanted.deadline,
            wait_s=plan.queue_s,
            goes_on=prefix > 0,
            begun=wanted.begun,
            first_by=wanted.first_by,
            sequences=attempt.sequences,
            on_started=partial(self.on_started, attempt),
            on_rejected=partial(self.on_rejected, attempt),
            prompt_length=begin,
        )
        self._machine.prepared(of)

    def _wake(self, attempt: SimulatedAttempt) -> None:
        self._service.wake(self._machine.due, lambda now: self.on_alarm(attempt, now))

    def _show(self, attempt: SimulatedAttempt, now: float, sequence: ReplayedSequence, upto: int) -> None:
        """Send the first `upto` tokens of the sequence to the client, if the answer is streamed."""
        if self.first_content_at is None:
            self.first_content_at = now
        if not self._streamed:
            return
        if self.first_at is None:
            self.first_at = now
            self._machine.content_sent(now)
        if sequence.choice == 0:
            self._released = attempt.prompt_tokens - self.request.prompt_tokens + upto
        sequence.visible = True

    def _client_has(self, _rung: str) -> Prefix:
        return (TOKEN * self._released,) * self.request.choices if self._released else ()

    def _end_attempt(self, attempt: SimulatedAttempt, now: float, *, ok: bool | None) -> None:
        self._service.backend_queues[attempt.of.rung].catch_up(now)
        attempt.generated = sum([sequence.generated for sequence in attempt.sequences])
        if ok:
            cached = attempt.sequences[0].cached_tokens if attempt.sequences else 0
            self.attempts.append((attempt.of.rung, attempt.prompt_tokens, attempt.generated, cached))

    def _complete(self, attempt: SimulatedAttempt, reason: str, now: float) -> None:
        self.rung, self.mark = attempt.of.rung, attempt.of.wanted.mark or ""
        before = attempt.prompt_tokens - self.request.prompt_tokens if attempt.sequences else self._released
        self.shown = attempt.generated + before * self.request.choices
        self.first_at = now if self.first_at is None else self.first_at
        self.first_content_at = now if self.first_content_at is None else self.first_content_at
        self._end("ok", reason, now)

    def _end(self, outcome: str, code: str, now: float) -> None:
        self.outcome, self.code, self.ended_at = outcome, code, now
        if self.plan is not None:
            self._service.active -= 1
        if outcome == "failed":
            self.shown = self._released * self.request.choices
        self._on_end(self, now)
