"""One request on the virtual clock: the answer machine's other shell, where nothing is waited for.

Fallback, cascade, breakers, retry budget, deadlines and queues are the service's own; what is played is how long an
engine takes, and what it says: lengths and margins of the trace.
"""

from collections.abc import Callable
from functools import partial

from config.model.words import STATIC_ANSWER
from config.tenants import tenant_queue_name
from gateway.simulation.replayed_sequence import Replayed
from gateway.simulation.simulated_attempt import TOKEN, SimulatedAttempt
from gateway.simulation.simulated_queue import SimulatedJob
from gateway.simulation.simulated_service import SimulatedService
from gateway.simulation.simulated_upstream import prompt_steps
from policies.admission.budget import BudgetHold
from policies.admission.quota import Reservation
from policies.answer.answer_effects import (
    Complete,
    EndAttempt,
    ForgetAnswer,
    MachineAttempt,
    OfferJob,
    Pause,
    Prepare,
    RecordOutcome,
    RequestPermit,
    WithdrawJob,
)
from policies.answer.answer_machine import AnswerMachine
from policies.fallback.breaker import BreakerOpen
from policies.fallback.fallback_machine import AnswerStatic, Break, GiveUp, Prefix, RungRefused
from policies.model.features import Features
from policies.model.load import Permit
from policies.model.plan import AttemptRecord, Plan
from policies.records.trace import TraceRequest
from policies.routing.token_budget import tokens_at

_BYTES_A_TOKEN = 4


class SimulatedRequest:
    """One answer in progress, and its account of itself once it has ended."""

    __slots__ = (
        "_attempt",
        "_machine",
        "_on_end",
        "_released",
        "_service",
        "_streamed",
        "arrived_at",
        "attempts",
        "cached",
        "code",
        "ended_at",
        "features",
        "first_at",
        "first_content_at",
        "held",
        "hold",
        "mark",
        "number",
        "outcome",
        "plan",
        "queue_wait_s",
        "request",
        "reservation",
        "rung",
        "shown",
    )

    def __init__(
        self,
        service: SimulatedService,
        number: int,
        request: TraceRequest,
        features: Features,
        on_end: Callable[["SimulatedRequest", float], None],
    ) -> None:
        """`number`: its place in the trace. `on_end` is called once, with it and the time."""
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
        """By the cascade's budget for the day."""
        self._machine: AnswerMachine
        self._attempt: SimulatedAttempt
        """In hand, or the last one."""
        self._streamed = not request.has or "stream" in request.has
        self._released = 0
        """Tokens of the first choice that the reader has."""
        self.attempts: list[tuple[str, int, int, int]] = []
        """(rung, prompt tokens, cached ones, output tokens) of what was not in vain for a failure."""
        self.queue_wait_s: float | None = None
        self.first_at: float | None = None
        """The reader has content."""
        self.first_content_at: float | None = None
        """There was content, whether or not it went out at once."""
        self.ended_at = 0.0
        self.outcome = ""
        """ok, failed or refused."""
        self.code = ""
        self.rung = ""
        self.mark = ""
        """Of the rung that answered, such as "degraded"."""
        self.shown = 0
        """Output tokens of all choices that the reader got."""

    @property
    def escalated(self) -> bool:
        """The cascade went on to its large stage."""
        return any(note.outcome == "escalated" for note in self.history)

    @property
    def history(self) -> tuple[AttemptRecord, ...]:
        """See `FallbackMachine`; empty if nothing was tried."""
        return self._machine.history if self.plan is not None else ()

    def start(self, plan: Plan, now: float) -> None:
        """Begin with the first rung."""
        self.plan = plan
        self._machine = AnswerMachine(plan, self.request.choices, client_has=self._client_has)
        self._machine.start(now)
        self._carry_out(now)

    def refuse(self, code: str, now: float) -> None:
        """Turned away before anything was tried."""
        self._end("refused", code, now)

    # --- what comes in ------------------------------------------------------------------------------------------

    def on_started(self, attempt: SimulatedAttempt, now: float) -> None:
        """An engine has it."""
        if attempt.of is self._machine.attempt:
            self._machine.on_started()
        if self.queue_wait_s is None:
            self.queue_wait_s = now - self.arrived_at

    def on_rejected(self, attempt: SimulatedAttempt, event: RungRefused, now: float) -> None:
        """Its time in the queue is up, or the queue is full."""
        if attempt.of is self._machine.attempt:
            self._machine.on_rejected(event, now)
            self._carry_out(now)

    def on_stop(self, attempt: SimulatedAttempt, sequence: Replayed, now: float) -> None:
        """A sequence has come to where something may happen."""
        if attempt.of is not self._machine.attempt:
            return
        reason = ""
        if attempt.of.cascade is None:
            self._show(attempt, now, sequence, sequence.made)
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
        """One of its deadlines may have passed."""
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

    # --- what the machine wants -----------------------------------------------------------------------------------

    def _carry_out(self, now: float) -> None:
        machine, service = self._machine, self._service
        for effect in machine.effects():
            match effect:
                case ForgetAnswer():
                    self.first_content_at = None
                case Pause(until):
                    service.wake(until, self._resume)
                case RequestPermit(rung, is_retry):
                    machine.on_permit(self._permit(rung, now, is_retry=is_retry), now)
                case Prepare(of):
                    self._prepare(of, now)
                case OfferJob():
                    self._offer(self._attempt, now)
                case EndAttempt(_, ok):
                    self._end_attempt(self._attempt, now, ok=ok)
                case WithdrawJob():
                    service.backend_queues[self._attempt.of.rung].withdraw(self._attempt.job, now)
                case RecordOutcome(rung, permit, ok, is_retry):
                    if not is_retry:
                        service.retries.request()
                    service.breakers[rung].record(permit, ok, now)
                case Complete(_, reason):
                    self._complete(self._attempt, reason, now)
                case AnswerStatic(mark=mark):
                    self.rung, self.mark = STATIC_ANSWER, mark or ""
                    self.first_at = self.first_content_at = now
                    self._end("ok", STATIC_ANSWER, now)
                case GiveUp(code=code):
                    self._end("refused", code, now)
                case Break(code=code):
                    self._end("failed", code, now)

    def _resume(self, now: float) -> None:
        self._machine.resumed()
        self._carry_out(now)

    def _permit(self, rung: str, now: float, *, is_retry: bool) -> Permit | RungRefused:
        service = self._service
        if is_retry and not service.retries.take(now):
            return RungRefused(why="retry_budget")
        if rung not in service.backend_queues:
            return RungRefused(why="not_simulated")
        permit = service.breakers[rung].permit(now)
        if isinstance(permit, BreakerOpen):
            return RungRefused(why="breaker_open", retry_after_s=permit.retry_after_s)
        return permit

    def _prepare(self, of: MachineAttempt, now: float) -> None:
        service, request, plan, wanted = self._service, self.request, self.plan, of.wanted
        assert plan is not None
        prefix = len(wanted.prefix[0]) if wanted.prefix else 0
        longest = service.backend_queues[of.rung].max_model_len
        asked = output_limit(request, plan.output_cap, longest)
        if asked is None or request.prompt_tokens + prefix >= longest:
            self._machine.on_rejected(RungRefused(why="prompt_too_long", lasting=True), now)
            return
        # The small model's own answer may have been longer than the one that the reader got in the end.
        length = max(request.output_tokens, len(request.margins)) if wanted.watched else request.output_tokens
        output = min(length, asked) - prefix
        attempt = self._attempt = SimulatedAttempt(of, plan.cascade)
        if output < 1:
            self._machine.on_nothing_left(of, now)
            return
        if of.cascade is not None:
            assert plan.cascade is not None
            attempt.margins = service.draws.margins(self.number, request, plan.cascade, output)
            attempt.gives_up_at = attempt.margins.gives_up_at(plan.cascade, output)
        tier = service.settings.tiers[self.features.tier]
        tenant = self.features.tenant
        line = tenant_queue_name(tenant, service.tenants[tenant], self.features.tier)
        prompt = request.prompt_tokens + prefix
        upstream = service.upstreams.get(of.rung)
        begin = prompt if upstream is None else prompt_steps(upstream) + prefix
        limit = min(request.prompt_tokens + asked, longest)
        for choice in range(request.choices):
            sequence = Replayed(
                choice,
                partial(self.on_stop, attempt),
                number=service.next_number(),
                priority=tier.priority,
                tenant=(service.salts[tenant], line),
                request=(self.number, request),
                prompt_tokens=begin,
                output_tokens=output,
                limit=limit if upstream is None else begin + asked,
            )
            attempt.sequences.append(sequence)
            attempt.fed.append(0)
            if of.cascade is not None:
                sequence.stop = attempt.next_stop(sequence)
        attempt.unfinished = request.choices
        attempt.prompt_tokens = prompt
        attempt.job = SimulatedJob(
            job_id=service.next_number(),
            tenant=line,
            prompt_tokens=prompt * request.choices,
            tokens=(prompt + asked - prefix) * request.choices,
            bytes=request.prompt_tokens * _BYTES_A_TOKEN,
            deadline=wanted.deadline,
            goes_on=prefix > 0,
            sequences=attempt.sequences,
            on_started=partial(self.on_started, attempt),
            on_rejected=partial(self.on_rejected, attempt),
            prompt_length=begin,
        )
        self._machine.prepared(of)

    def _offer(self, attempt: SimulatedAttempt, now: float) -> None:
        self._service.backend_queues[attempt.of.rung].offer(attempt.job, now)
        if attempt.of is self._machine.attempt:
            self._wake(attempt)

    def _wake(self, attempt: SimulatedAttempt) -> None:
        self._service.wake(self._machine.due, lambda now: self.on_alarm(attempt, now))

    # --- what goes out ------------------------------------------------------------------------------------------

    def _show(self, attempt: SimulatedAttempt, now: float, sequence: Replayed, upto: int) -> None:
        """The reader has the first `upto` tokens of this attempt's choice."""
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
        attempt.made = sum([each.made for each in attempt.sequences])
        if ok:
            cached = sum([each.cached_tokens for each in attempt.sequences[:1]])
            self.attempts.append((attempt.of.rung, attempt.prompt_tokens, cached, attempt.made))

    def _complete(self, attempt: SimulatedAttempt, reason: str, now: float) -> None:
        self.rung, self.mark = attempt.of.rung, attempt.of.wanted.mark or ""
        before = attempt.prompt_tokens - self.request.prompt_tokens if attempt.sequences else self._released
        self.shown = attempt.made + before * self.request.choices
        if self.first_at is None:
            self.first_at = now
        if self.first_content_at is None:
            self.first_content_at = now
        self._end("ok", reason, now)

    def _end(self, outcome: str, code: str, now: float) -> None:
        self.outcome, self.code, self.ended_at = outcome, code, now
        if outcome == "failed":
            self.shown = self._released * self.request.choices
        self._on_end(self, now)


def output_limit(request: TraceRequest, cap: int | None, longest: int) -> int | None:
    """Output tokens of a choice at the most on a rung that holds `longest` tokens; None: it cannot take the request."""
    room = longest - request.prompt_tokens
    asked = tokens_at(request.max_tokens, cap, room)
    return None if asked is None else asked or room
