"""One answer from its plan to its end, sans-IO: the server and the simulation drive this machine.

It joins the fallback machine (what is tried next), the cascade machine of an attempt that may escalate, the commit
point and the deadlines. Its shell reports events and carries out `effects`, in order. An attempt goes

    RequestPermit ──on_permit──▶ Prepare ──prepared──▶ OfferJob ──on_started, on_output ...──▶ EndAttempt
                   │                    │                                     │
                   └────── refused: RecordOutcome, if there was a permit; then the fallback machine's next effect

and every attempt that was prepared ends with exactly one `EndAttempt`, a `WithdrawJob` if its backend does not know
yet, and one `RecordOutcome` for its permit. The answer ends with one of `Complete`, `AnswerStatic`, `GiveUp` and
`Break`, or when it is stopped from outside.
"""

from collections import deque
from collections.abc import Callable

import msgspec

from policies.answer import answer_effects
from policies.answer.answer_effects import AnswerEffect, MachineAttempt
from policies.cascade.cascade import CascadeMachine
from policies.fallback import fallback_machine
from policies.fallback.fallback_machine import (
    AttemptFailed,
    Begun,
    FallbackMachine,
    GiveUp,
    Prefix,
    RungRefused,
    Try,
)
from policies.model.load import Permit
from policies.model.plan import BY_BUDGET, AttemptRecord, Degraded, Plan, degraded_codes

_NEVER = float("inf")
_SPREAD = 0.25


class AnswerMachine:
    """`now` is on the clock of the plan's deadlines. After each call, carry out `effects`; wake it at `due`."""

    def __init__(
        self,
        plan: Plan,
        choices: int,
        *,
        client_has: Callable[[str], Prefix],
        chance: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`client_has`: the client's tokens of each choice, as ids of this rung; called after the commit point.

        `chance`: numbers in 0..1, which spread retries, and those of clients that are sent away.
        """
        self._plan = plan
        self._choices = choices
        self._client_has = client_has
        self._chance = chance
        self._fallback = FallbackMachine(plan)
        self._wanted: Try | None = None
        """The attempt that is being permitted or prepared."""
        self._permit: Permit | None = None
        self._tried = False
        self._stall_at: float | None = None
        """When the next output of the attempt is due; None: it had none yet."""
        self._stopped_on = ""
        """The rung whose attempt was stopped from outside, which the fallback machine does not know."""
        self._ended = False
        self.effects: deque[AnswerEffect] = deque()
        """The pending ones, in order: take each from the left, and carry it out."""
        self.attempt: MachineAttempt | None = None
        self.due = _NEVER
        """When `on_deadline` must be called, unless another event comes before."""

    @property
    def committed(self) -> bool:
        """The client has content: the commit point is passed."""
        return self._fallback.committed

    @property
    def history(self) -> tuple[AttemptRecord, ...]:
        return self._fallback.history

    def degraded(self, rung: str) -> tuple[Degraded, ...]:
        """See `policies.model.plan.Degraded`; `rung`: the one that answers."""
        return degraded_codes(self._plan.degraded, self._fallback.history, rung)

    @property
    def mark(self) -> str | None:
        return self._fallback.mark

    @property
    def rung(self) -> str:
        """The rung of the current attempt, or of the last one."""
        if self.attempt is not None:
            return self.attempt.rung
        history = self._fallback.history
        return self._stopped_on or (history[-1].rung if history else "")

    @property
    def reason(self) -> str:
        """Code of the last failure or refusal; else "asked_for", or "budget" if a spent budget changed the plan."""
        return self._last_trouble() or self._default_reason()

    def start(self, now: float) -> None:
        self._apply(self._fallback.start(now), now)

    def go_on(self, begun: Begun, now: float) -> None:
        """Instead of `start`: a process that has ended had sent a part of the answer."""
        self._tried = True
        self._apply(self._fallback.go_on(begun, now), now)

    def resumed(self) -> None:
        if self._wanted is not None:
            self.effects.append(answer_effects.RequestPermit(self._wanted.rung, self._wanted.is_retry))

    def on_permit(self, permit: Permit) -> None:
        wanted = self._wanted
        if wanted is None:
            # Stopped meanwhile.
            return
        self._permit = permit
        cascade = None
        if wanted.watched:
            assert self._plan.cascade is not None
            cascade = CascadeMachine(self._plan.cascade, self._choices)
        self.effects.append(answer_effects.Prepare(MachineAttempt(wanted.rung, wanted, permit, cascade)))

    def prepared(self, attempt: MachineAttempt, *, draft_until: float | None = None) -> None:
        """Its job is made. `draft_until`: it is offered at `draft_ready`, or at this time if the draft is late."""
        if self._wanted is not attempt.wanted:
            return
        self._wanted = self._permit = None
        self.attempt = attempt
        self._stall_at = None
        if draft_until is None:
            self._offer(attempt)
        else:
            self.due = draft_until

    def draft_ready(self) -> None:
        """The first draft is complete, or as much of it as there will be."""
        if self.attempt is not None:
            self._offer(self.attempt)

    def on_rejected(self, event: RungRefused, now: float) -> None:
        """The rung refuses the current attempt, or the one that was to be permitted or prepared."""
        attempt, wanted, permit = self.attempt, self._wanted, self._permit
        if attempt is None and wanted is None:
            # Stopped meanwhile.
            return
        if attempt is not None:
            self._end(ok=None, withdraw=False)
            event = msgspec.structs.replace(event, prefix=self._prefix(attempt))
        elif wanted is not None and permit is not None:
            self._permit = None
            self.effects.append(answer_effects.RecordOutcome(wanted.rung, permit, None, wanted.is_retry))
        self._report(event, now)

    def on_started(self, at: float) -> None:
        """The attempt's job left the queue."""
        if self.attempt is not None:
            self.attempt.has_started, self.attempt.started_at = True, at

    def on_output(self, now: float, first_at: float | None = None) -> None:
        """`first_at`: when the first output came, if it waited for its reader."""
        if self.attempt is not None:
            if self.attempt.first_at is None:
                self.attempt.first_at = now if first_at is None else first_at
                self._fallback.output_came()
            self._stall_at = now + self._plan.stall_s

    def content_sent(self, now: float, *, atomic: bool = False, answer: bool = True) -> None:
        """Content goes to the client: the commit point. See `ContentSent`."""
        self._fallback.on(fallback_machine.ContentSent(atomic=atomic, answer=answer), now)

    def on_whole(self, now: float) -> None:
        """All choices are complete, and the cascade's judge is to read them."""
        attempt = self.attempt
        if attempt is not None:
            # Nothing more comes of the attempt, which has not failed thereby.
            self._stall_at = _NEVER
            until = min(now + self._plan.stall_s, self._plan.total_at)
            self.effects.append(answer_effects.JudgeAnswer(attempt, until))

    def on_complete(self, now: float, *, ended: bool, cascade_reason: str = "", draft_reason: str = "") -> None:
        """All choices are complete. `ended`: its backend knows. The reasons are codes of an accepted answer."""
        attempt = self._end(ok=True, withdraw=not ended)
        self._complete(attempt, self._reason_of(attempt, cascade_reason, draft_reason), now)

    def on_nothing_left(self, attempt: MachineAttempt, now: float) -> None:
        """Instead of `prepared`: the client has the whole answer, and there is no job to offer."""
        if self._wanted is not attempt.wanted:
            return
        self._wanted = self._permit = None
        self._end(attempt, ok=None, withdraw=False)
        self._complete(attempt, self._reason_of(attempt, "", ""), now)

    def on_escalated(self, why: str, now: float) -> None:
        attempt = self._end(ok=True, withdraw=True)
        self._report(fallback_machine.Escalated(why=why, prefix=self._prefix(attempt)), now)

    def on_refused_by_engine(self, event: RungRefused, now: float) -> None:
        """The engine refuses a sequence of the attempt; its other sequences still run."""
        self._end(ok=None, withdraw=True)
        self._report(event, now)

    def on_failed(self, event: AttemptFailed, now: float, *, ok: bool | None, ended: bool) -> None:
        """The attempt failed. `ok` None: no evidence about the rung. `ended`: its backend knows."""
        attempt = self._end(ok=ok, withdraw=not ended)
        self._report(msgspec.structs.replace(event, prefix=self._prefix(attempt)), now)

    def on_deadline(self, now: float) -> None:
        """Check the deadlines of the current attempt; `due` moves with its outputs."""
        attempt = self.attempt
        if attempt is None:
            return
        clocks = self._fallback.clocks
        self.due = clocks.due(self.due, self._stall_at)
        match clocks.fired(now, self.due, self._stall_at, has_started=attempt.has_started):
            case None:
                pass
            case "queue_timeout":
                self._end(ok=None, withdraw=True)
                self._report(RungRefused(why="queue_timeout", message="It waited in the queue for too long."), now)
            case "total_timeout":
                self.on_failed(AttemptFailed(kind="total_timeout", retryable=False), now, ok=None, ended=False)
            case kind:
                self.on_failed(AttemptFailed(kind=kind, retryable=False), now, ok=False, ended=False)

    def stop(self, *, client_left: bool = False) -> None:
        """End the answer from outside, at any time: the current attempt is ended, and none follows."""
        self._ended = True
        wanted, permit = self._wanted, self._permit
        self._wanted = self._permit = None
        if self.effects:
            self.effects = deque([each for each in self.effects if isinstance(each, answer_effects.AttemptEnding)])
        if self.attempt is not None:
            self._stopped_on = self.attempt.rung
            self._end(ok=None, withdraw=True, client_left=client_left)
        elif wanted is not None and permit is not None:
            self.effects.append(answer_effects.RecordOutcome(wanted.rung, permit, None, wanted.is_retry))

    def _report(self, event: fallback_machine.FallbackEvent, now: float) -> None:
        self._wanted = None
        self._apply(self._fallback.on(event, now, self._chance()), now)

    def _apply(self, effect: fallback_machine.FallbackEffect | None, now: float) -> None:
        if effect is None or self._ended:
            return
        if not isinstance(effect, Try):
            self.effects.append(spread(effect, self._chance()) if isinstance(effect, GiveUp) else effect)
            return
        if self._tried and not self._fallback.committed:
            self.effects.append(answer_effects.ForgetAnswer())
        self._tried = True
        self._wanted = effect
        if effect.not_before > now:
            self.effects.append(answer_effects.Pause(effect.not_before))
        else:
            self.effects.append(answer_effects.RequestPermit(effect.rung, effect.is_retry))

    def _offer(self, attempt: MachineAttempt) -> None:
        self.due = attempt.wanted.deadline
        self.effects.append(answer_effects.OfferJob(attempt))

    def _end(
        self, attempt: MachineAttempt | None = None, *, ok: bool | None, withdraw: bool, client_left: bool = False
    ) -> MachineAttempt:
        """End the current attempt, or one that did not become it. Returns it."""
        attempt = attempt or self.attempt
        assert attempt is not None
        self.attempt = None
        self.due = _NEVER
        self.effects.append(answer_effects.EndAttempt(attempt, ok, client_left))
        if withdraw:
            self.effects.append(answer_effects.WithdrawJob(attempt))
        is_retry, ttft_s = attempt.wanted.is_retry, attempt.ttft_s
        self.effects.append(answer_effects.RecordOutcome(attempt.rung, attempt.permit, ok, is_retry, ttft_s))
        return attempt

    def _complete(self, attempt: MachineAttempt, reason: str, now: float) -> None:
        self._fallback.on(fallback_machine.AttemptFinished(reason), now)
        self.effects.append(answer_effects.Complete(attempt, reason))

    def _prefix(self, attempt: MachineAttempt) -> Prefix:
        return self._client_has(attempt.rung) if self._fallback.committed else ()

    def _reason_of(self, attempt: MachineAttempt, cascade_reason: str, draft_reason: str) -> str:
        trouble = self._last_trouble()
        if trouble is not None:
            return trouble
        if attempt.wanted.watched:
            return cascade_reason
        if draft_reason:
            return draft_reason
        cascade = self._plan.cascade
        if cascade is not None and cascade.drafts and attempt.rung == cascade.large.to:
            return "small_unavailable"
        return cascade.why if cascade is not None and cascade.why != "default" else self._default_reason()

    def _default_reason(self) -> str:
        return "asked_for" if BY_BUDGET.isdisjoint(self._plan.degraded) else "budget"

    def _last_trouble(self) -> str | None:
        for note in reversed(self._fallback.history):
            if note.outcome != "answered":
                return note.why
        return None


def spread(refusal: GiveUp, random01: float) -> GiveUp:
    """Clients that were sent away together do not come back together. `random01`: a random number in 0..1."""
    if refusal.code != "wait_too_long" or refusal.retry_after_s is None:
        return refusal
    return msgspec.structs.replace(refusal, retry_after_s=refusal.retry_after_s * (1 + _SPREAD * random01))
