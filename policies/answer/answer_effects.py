"""The answer machine's effects, and its view of the current attempt."""

import msgspec

from policies.cascade.cascade import CascadeMachine
from policies.fallback.fallback_machine import AnswerStatic, Break, GiveUp, Try
from policies.model.load import Permit


class MachineAttempt(msgspec.Struct, eq=False):
    """The machine's view of the current attempt."""

    rung: str
    wanted: Try
    permit: Permit
    cascade: CascadeMachine | None
    """Of a small stage that may escalate; it gets every output before the client."""
    has_started: bool = False
    started_at: float | None = None
    """When its job left the queue."""
    first_at: float | None = None
    """When its first output came."""

    @property
    def ttft_s(self) -> float | None:
        """From its start to its first output; None: there was none."""
        return None if self.first_at is None or self.started_at is None else self.first_at - self.started_at


class ForgetAnswer(msgspec.Struct, frozen=True, gc=False):
    """Discard the output of earlier attempts, of which the client has received nothing."""


class Pause(msgspec.Struct, frozen=True, gc=False):
    """Wait until then, and call `resumed`."""

    until: float


class RequestPermit(msgspec.Struct, frozen=True, gc=False):
    """Request a permit of the rung's breaker, and of the retry budget for a retry.

    Answer with `on_permit`, or with `on_rejected` if there is none.
    """

    rung: str
    is_retry: bool


class Prepare(msgspec.Struct, frozen=True, gc=False):
    """Make the job of this attempt; answer with `prepared`, or with `on_rejected` if the rung cannot take it."""

    attempt: MachineAttempt


class OfferJob(msgspec.Struct, frozen=True, gc=False):
    """Enqueue the job at its backend; answer with `on_rejected` if it is refused."""

    attempt: MachineAttempt


class JudgeAnswer(msgspec.Struct, frozen=True, gc=False):
    """The attempt's answer is whole: have its cascade's judge read it, for so long at the most.

    Answer with `on_complete` or `on_escalated`.
    """

    attempt: MachineAttempt
    until: float


class EndAttempt(msgspec.Struct, frozen=True, gc=False):
    """The attempt has ended: charge for it."""

    attempt: MachineAttempt
    ok: bool | None
    """Whether it succeeded; None: it did not, by no fault of the rung."""
    client_left: bool = False
    """The client left, or was too slow: it is charged for a started attempt."""


class WithdrawJob(msgspec.Struct, frozen=True, gc=False):
    """Withdraw the job: its backend does not know yet that the attempt has ended."""

    attempt: MachineAttempt


class RecordOutcome(msgspec.Struct, frozen=True, gc=False):
    """For the rung's breaker and the retry budget."""

    rung: str
    permit: Permit
    ok: bool | None
    """None: no evidence about the rung."""
    is_retry: bool
    ttft_s: float | None = None
    """See `MachineAttempt.ttft_s`."""


class Complete(msgspec.Struct, frozen=True, gc=False):
    """The answer is complete."""

    attempt: MachineAttempt
    reason: str
    """Reason code: why this rung answered."""


AttemptEnding = EndAttempt | WithdrawJob | RecordOutcome
"""These effects are carried out even if the answer is stopped."""
AnswerEnd = Complete | AnswerStatic | GiveUp | Break
AnswerEffect = ForgetAnswer | Pause | RequestPermit | Prepare | OfferJob | JudgeAnswer | AttemptEnding | AnswerEnd
