"""One request on the virtual clock.

It drives the machines that `actors.request.response_stream` drives, without the waiting.

Fallback machine, cascade machine, breakers, retry budget and fair queue are the service's own; this is their shell.
"""

from typing import TYPE_CHECKING

from config.tenants import queue_line
from gateway.simulation.draws import Margins
from gateway.simulation.replayed_sequence import Replayed
from gateway.simulation.simulated_queue import SimulatedJob
from gateway.simulation.simulated_upstream import prompt_steps
from policies.admission.budget import BudgetHold
from policies.admission.quota import Reservation
from policies.cascade.cascade import Accept, CascadeMachine, Escalate, Release
from policies.fallback import fallback_machine
from policies.fallback.breaker import BreakerOpen
from policies.model.attempt_record import AttemptRecord
from policies.model.breaker_view import Permit
from policies.model.features import Features
from policies.model.plan import Plan
from policies.records.trace import TraceRequest

if TYPE_CHECKING:
    from gateway.simulation.world import World

_BYTES_A_TOKEN = 4
_TOKEN = (0,)
_WORD = " x"
"""A trace has no words; each output is taken for one."""


class SimulatedAttempt:
    """One try of one rung."""

    __slots__ = (
        "answer",
        "deadline",
        "fed",
        "gives_up_at",
        "job",
        "machine",
        "made",
        "margins",
        "permit",
        "prompt_tokens",
        "sequences",
        "taken",
        "try_",
        "unfinished",
    )

    def __init__(
        self, answer: "SimulatedRequest", effect: fallback_machine.Try, permit: Permit, machine: CascadeMachine | None
    ) -> None:
        self.answer = answer
        self.try_ = effect
        self.permit = permit
        self.machine = machine
        self.margins = Margins(())
        self.gives_up_at: int | None = None
        """Output token of each choice at which the machine will escalate."""
        self.sequences: list[Replayed] = []
        self.fed: list[int] = []
        """Output tokens of each sequence that the machine has seen."""
        self.unfinished = 0
        self.prompt_tokens = 0
        self.job: SimulatedJob
        self.deadline = effect.deadline
        self.taken = False
        self.made = 0
        """Output tokens, once it is over."""

    @property
    def has_begun(self) -> bool:
        """A token has come."""
        return any(each.made for each in self.sequences)

    def on_taken(self, now: float) -> None:
        """It left the queue for its engine."""
        self.taken = True
        self.answer.on_taken(now)

    def on_expired(self, now: float) -> None:
        """It has waited in the queue for too long."""
        self.answer.on_unserved(self, now)


class SimulatedRequest:
    """One answer under way, and its account of itself once it has ended."""

    __slots__ = (
        "_attempt",
        "_climb",
        "_released",
        "_streamed",
        "_world",
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
        self, world: "World", number: int, request: TraceRequest, features: Features, arrived_at: float
    ) -> None:
        self._world = world
        self.number = number
        self.request = request
        self.features = features
        self.arrived_at = arrived_at
        self.plan: Plan | None = None
        self.reservation: Reservation | None = None
        self.hold: BudgetHold | None = None
        self.held = 0.0
        """By the cascade's budget for the day."""
        self._climb: fallback_machine.FallbackMachine
        self._attempt: SimulatedAttempt | None = None
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
        """See `Climb.history`; empty if it never climbed."""
        return self._climb.history if self.plan is not None else ()

    def start(self, plan: Plan, now: float) -> None:
        """Begin the climb."""
        self.plan = plan
        self._climb = fallback_machine.FallbackMachine(plan)
        self._obey(self._climb.start(now), now)

    def refuse(self, code: str, now: float) -> None:
        """Turned away before any climb."""
        self._end("refused", code, now)

    # --- what comes in ------------------------------------------------------------------------------------------

    def on_taken(self, now: float) -> None:
        """An engine has it."""
        if self.queue_wait_s is None:
            self.queue_wait_s = now - self.arrived_at

    def on_unserved(self, attempt: SimulatedAttempt, now: float) -> None:
        """Its time in the queue is up."""
        if attempt is self._attempt:
            self._close(ok=None, over=True, now=now)
            self._obey(self._climb.on(fallback_machine.RungRefused(why="queue_timeout"), now), now)

    def on_stop(self, sequence: Replayed, now: float) -> None:
        """A sequence has come to where something may happen."""
        attempt = self._attempt
        if attempt is None or sequence.attempt is not attempt:
            return
        if attempt.machine is None:
            self._show(sequence, sequence.made, now)
            if sequence.finished:
                self._finish_sequence(attempt, sequence, "", now)
            else:
                sequence.stop = sequence.end
            return
        why = self._feed(attempt, attempt.machine, sequence, now)
        if why == "escalate":
            event = fallback_machine.Escalated(prefix=self._prefix())
            self._close(ok=True, over=False, now=now)
            self._obey(self._climb.on(event, now), now)
        elif sequence.finished:
            self._finish_sequence(attempt, sequence, why, now)
        else:
            sequence.stop = self._next_stop(attempt, sequence)

    def on_alarm(self, attempt: SimulatedAttempt, now: float) -> None:
        """One of its deadlines may have passed."""
        if attempt is not self._attempt or self.plan is None:
            return
        due = attempt.deadline
        self._world.backend_queues[attempt.try_.rung].catch_up(now)
        if attempt.has_begun:
            due = min(max(each.at for each in attempt.sequences) + self.plan.stall_s, self.plan.total_at)
        if now < due:
            self._world.wake(due, attempt)
            return
        self._obey(self._climb.on(self._too_late(attempt, now), now), now)

    def _too_late(self, attempt: SimulatedAttempt, now: float) -> fallback_machine.FallbackEvent:
        assert self.plan is not None
        if now >= self.plan.total_at:
            prefix = self._prefix()
            self._close(ok=None, over=False, now=now)
            return fallback_machine.AttemptFailed(kind="total_timeout", retryable=False, prefix=prefix)
        if not attempt.taken:
            self._close(ok=None, over=False, now=now)
            return fallback_machine.RungRefused(why="queue_timeout")
        prefix = self._prefix()
        self._close(ok=False, over=False, now=now)
        kind = "stall" if attempt.has_begun else "ttft_timeout"
        return fallback_machine.AttemptFailed(kind=kind, retryable=False, prefix=prefix)

    # --- what the climb wants -----------------------------------------------------------------------------------

    def _obey(self, effect: fallback_machine.FallbackEffect | None, now: float) -> None:
        while effect is not None:
            match effect:
                case fallback_machine.Try():
                    event = self._try(effect, now)
                    effect = self._climb.on(event, now) if event is not None else None
                case fallback_machine.AnswerStatic(mark=mark):
                    self.rung, self.mark = "static_answer", mark or ""
                    self.first_at = self.first_content_at = now
                    self._end("ok", "static_answer", now)
                    return
                case fallback_machine.GiveUp(code=code):
                    self._end("refused", code, now)
                    return
                case fallback_machine.Break(code=code):
                    self._end("failed", code, now)
                    return

    def _try(self, effect: fallback_machine.Try, now: float) -> fallback_machine.FallbackEvent | None:
        world, request, plan = self._world, self.request, self.plan
        assert plan is not None
        if effect.is_retry and not world.retries.take(now):
            return fallback_machine.RungRefused(why="retry_budget")
        if effect.rung not in world.backend_queues:
            return fallback_machine.RungRefused(why="not_simulated")
        if not self._climb.committed:
            self.first_content_at = None
        permit = world.breakers[effect.rung].permit(now)
        if isinstance(permit, BreakerOpen):
            return fallback_machine.RungRefused(why="breaker_open", retry_after_s=permit.retry_after_s)
        backend_queue = world.backend_queues[effect.rung]
        prefix = len(effect.prefix[0]) if effect.prefix else 0
        longest = backend_queue.max_model_len
        asked = output_limit(request, plan.output_cap, longest)
        if asked is None or request.prompt_tokens + prefix >= longest:
            self._record(effect, permit, ok=None, now=now)
            return fallback_machine.RungRefused(why="prompt_too_long", lasting=True)
        # The small model's own answer may have been longer than the one that the reader got in the end.
        length = max(request.output_tokens, len(request.margins)) if effect.watched else request.output_tokens
        output = min(length, asked) - prefix
        machine = None
        if effect.watched:
            assert plan.cascade is not None
            machine = CascadeMachine(plan.cascade, request.choices)
        attempt = self._attempt = SimulatedAttempt(self, effect, permit, machine)
        if output < 1:
            self._complete(attempt, "asked_for", now)
            return None
        if machine is not None:
            assert plan.cascade is not None
            attempt.margins = world.draws.margins(self.number, request, plan.cascade, output)
            attempt.gives_up_at = attempt.margins.gives_up_at(plan.cascade, output)
        tier = world.settings.tiers[self.features.tier]
        tenant = self.features.tenant
        line = queue_line(tenant, world.tenants[tenant], self.features.tier)
        prompt = request.prompt_tokens + prefix
        upstream = world.upstreams.get(effect.rung)
        begin = prompt if upstream is None else prompt_steps(upstream) + prefix
        limit = min(request.prompt_tokens + asked, longest)
        for choice in range(request.choices):
            sequence = Replayed(
                attempt,
                choice,
                number=world.next_number(),
                priority=tier.priority,
                tenant=(world.salts[tenant], line),
                request=(self.number, request),
                prompt_tokens=begin,
                output_tokens=output,
                limit=limit if upstream is None else begin + asked,
            )
            attempt.sequences.append(sequence)
            attempt.fed.append(0)
            if machine is not None:
                sequence.stop = self._next_stop(attempt, sequence)
        attempt.unfinished = request.choices
        attempt.prompt_tokens = prompt
        attempt.job = SimulatedJob(
            job_id=world.next_number(),
            tenant=line,
            prompt_tokens=prompt * request.choices,
            tokens=(prompt + asked - prefix) * request.choices,
            bytes=request.prompt_tokens * _BYTES_A_TOKEN,
            deadline=effect.deadline,
            goes_on=prefix > 0,
            attempt=attempt,
            sequence_count=request.choices,
            prompt_length=begin,
        )
        rejected = backend_queue.offer(attempt.job, now)
        if rejected is not None:
            self._close(ok=None, over=True, now=now)
            return fallback_machine.RungRefused(why=rejected.reason, retry_after_s=rejected.retry_after_s)
        if self._attempt is attempt:
            world.wake(effect.deadline, attempt)
        return None

    def _next_stop(self, attempt: SimulatedAttempt, sequence: Replayed) -> int:
        """Known tokens at which the machine, or the reader, has something new."""
        assert self.plan is not None
        cascade = self.plan.cascade
        assert cascade is not None
        stop = sequence.end
        made = sequence.made
        if attempt.gives_up_at is not None and attempt.gives_up_at > made:
            stop = min(stop, sequence.begin + attempt.gives_up_at)
        if not sequence.visible and attempt.machine is not None and attempt.machine.mode == "window":
            stop = min(stop, sequence.begin + max(cascade.window, made) + 1)
        return stop

    def _feed(self, attempt: SimulatedAttempt, machine: CascadeMachine, sequence: Replayed, now: float) -> str:
        """The machine sees all tokens since the last time. "escalate", or why the answer was accepted, or "".

        Tokens that cannot be the end of what is released now go in as one output, as those of an accepted draft do.
        """
        choice, made, fed = sequence.choice, sequence.made, attempt.fed[sequence.choice]
        assert self.plan is not None
        assert self.plan.cascade is not None
        single = made - self.plan.cascade.window - 1 if machine.mode == "window" else made - 1
        while fed < made:
            upto = max(single, fed + 1)
            margins = attempt.margins.of(fed, upto)
            finish = sequence.finished and upto == made
            effects = machine.on_output(choice, _TOKEN * (upto - fed), _WORD, margins, finish)
            fed = attempt.fed[choice] = upto
            for effect in effects:
                match effect:
                    case Release(upto=shown):
                        self._show(attempt.sequences[effect.index], shown, now)
                    case Escalate():
                        return "escalate"
                    case Accept(why):
                        return why
        return ""

    # --- what goes out ------------------------------------------------------------------------------------------

    def _show(self, sequence: Replayed, upto: int, now: float) -> None:
        """The reader has the first `upto` tokens of this attempt's choice."""
        if self.first_content_at is None:
            self.first_content_at = now
        if not self._streamed:
            return
        if self.first_at is None:
            self.first_at = now
            self._climb.on(fallback_machine.ContentSent(), now)
        if sequence.choice == 0:
            self._released = sequence.attempt.prompt_tokens - self.request.prompt_tokens + upto
        sequence.visible = True

    def _prefix(self) -> fallback_machine.Prefix:
        return (_TOKEN * self._released,) * self.request.choices if self._climb.committed and self._released else ()

    def _finish_sequence(self, attempt: SimulatedAttempt, sequence: Replayed, why: str, now: float) -> None:
        attempt.unfinished -= 1
        if not attempt.unfinished:
            self._complete(attempt, why or "asked_for", now)

    def _complete(self, attempt: SimulatedAttempt, why: str, now: float) -> None:
        self._climb.on(fallback_machine.Finished(why), now)
        self.rung, self.mark = attempt.try_.rung, attempt.try_.mark or ""
        before = self._released
        if attempt.sequences:
            before = attempt.prompt_tokens - self.request.prompt_tokens
            self._world.backend_queues[self.rung].finished(attempt.job)
        self._close(ok=True if attempt.sequences else None, over=True, now=now)
        self.shown = attempt.made + before * self.request.choices
        if self.first_at is None:
            self.first_at = now
        if self.first_content_at is None:
            self.first_content_at = now
        self._end("ok", why, now)

    def _close(self, *, ok: bool | None, over: bool, now: float) -> None:
        attempt, self._attempt = self._attempt, None
        assert attempt is not None
        backend_queue = self._world.backend_queues[attempt.try_.rung]
        backend_queue.catch_up(now)
        attempt.made = sum([each.made for each in attempt.sequences])
        if not over:
            backend_queue.withdraw(attempt.job, now)
        if ok:
            cached = sum([each.cached_tokens for each in attempt.sequences[:1]])
            self.attempts.append((attempt.try_.rung, attempt.prompt_tokens, cached, attempt.made))
        self._record(attempt.try_, attempt.permit, ok=ok, now=now)

    def _record(self, effect: fallback_machine.Try, permit: Permit, *, ok: bool | None, now: float) -> None:
        if not effect.is_retry:
            self._world.retries.request()
        self._world.breakers[effect.rung].record(permit, ok, now)

    def _end(self, outcome: str, code: str, now: float) -> None:
        self.outcome, self.code, self.ended_at = outcome, code, now
        if outcome == "failed":
            self.shown = self._released * self.request.choices
        self._world.on_end(self, now)


def output_limit(request: TraceRequest, cap: int | None, longest: int) -> int | None:
    """Output tokens of a choice at the most on a rung that holds `longest` tokens; None: it cannot take the request."""
    room = longest - request.prompt_tokens
    asked = min(request.max_tokens or cap, cap) if cap is not None else request.max_tokens
    if room < 1 or asked > room:
        if room < 1 or request.max_tokens:
            return None
        asked = room
    return asked or room
