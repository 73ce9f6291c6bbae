"""What the answer machine knows of the attempt in hand, and what it wants done."""

import msgspec

from policies.cascade.cascade import CascadeMachine
from policies.fallback.fallback_machine import AnswerStatic, Break, GiveUp, Try
from policies.model.load import Permit


class MachineAttempt(msgspec.Struct, eq=False):
    """The attempt in hand, as the machine knows it."""

    rung: str
    wanted: Try
    permit: Permit
    cascade: CascadeMachine | None
    """Of a small stage that may escalate: it sees every output before the client does."""
    has_started: bool = False
    """A backend has begun to work on it."""
    has_output: bool = False


# --- effects --------------------------------------------------------------------------------------------------------


class ForgetAnswer(msgspec.Struct, frozen=True, gc=False):
    """Nothing of what earlier attempts brought has reached the client: begin again."""


class Pause(msgspec.Struct, frozen=True, gc=False):
    """Wait until then, and call `resumed`."""

    until: float


class RequestPermit(msgspec.Struct, frozen=True, gc=False):
    """Ask the rung's breaker, and the retry budget for a retry; answer with `on_permit`."""

    rung: str
    is_retry: bool


class Prepare(msgspec.Struct, frozen=True, gc=False):
    """Make the job of this attempt; answer with `prepared`, or with `on_rejected` if the rung cannot take it."""

    attempt: MachineAttempt


class OfferJob(msgspec.Struct, frozen=True, gc=False):
    """Into the backend's queue with the job; answer with `on_rejected` if it is not let in."""

    attempt: MachineAttempt


class EndAttempt(msgspec.Struct, frozen=True, gc=False):
    """It is over: charge for it what is to be charged."""

    attempt: MachineAttempt
    ok: bool | None
    """It did its work; None: it did not, by no fault of the rung."""
    client_left: bool = False
    """The client left, or was too slow: it is charged for what was begun."""


class WithdrawJob(msgspec.Struct, frozen=True, gc=False):
    """Its backend does not know yet that the attempt is over."""

    attempt: MachineAttempt


class RecordOutcome(msgspec.Struct, frozen=True, gc=False):
    """For the rung's breaker and the retry budget."""

    rung: str
    permit: Permit
    ok: bool | None
    """None says nothing about the rung."""
    is_retry: bool


class Complete(msgspec.Struct, frozen=True, gc=False):
    """The answer is whole."""

    attempt: MachineAttempt
    reason: str
    """Why it was this rung that answered."""


AnswerEffect = (
    ForgetAnswer
    | Pause
    | RequestPermit
    | Prepare
    | OfferJob
    | EndAttempt
    | WithdrawJob
    | RecordOutcome
    | Complete
    | AnswerStatic
    | GiveUp
    | Break
)

AttemptEnding = EndAttempt | WithdrawJob | RecordOutcome
"""They are carried out even if the answer is stopped."""
