"""Codes for answers that got less than the client requested, or than the policy does without load and faults.

They appear in the response field `penstock`, in the header `x-penstock-degraded`, in the WebSocket messages `started`
and `done`, in the decision record and in the ledger. They are a public interface: a code never changes its meaning.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from config.model.words import STATIC_ANSWER

if TYPE_CHECKING:
    from policies.model.attempt_record import AttemptRecord

Degraded = Literal["budget_downgraded", "budget_small_only", "busy", "output_capped", "fallback", "static_answer"]
"""budget_downgraded, budget_small_only: the request did not fit into the budget and `when_spent` changed it.
busy: `when_busy` kept a cascade on its small stage. output_capped: the route allows fewer output tokens than the client
requested. fallback: an earlier rung failed or refused. static_answer: the answer is a text from the policy file."""
BY_BUDGET: frozenset[Degraded] = frozenset({"budget_downgraded", "budget_small_only"})


def degraded_codes(planned: Sequence[Degraded], history: "Sequence[AttemptRecord]", rung: str) -> tuple[Degraded, ...]:
    """The plan's codes, and those that result from the attempts before `rung`, the one that answers."""
    codes = list(planned)
    if history and any(attempt.outcome in {"failed", "refused"} and attempt.rung != rung for attempt in history):
        codes.append("fallback")
    if rung == STATIC_ANSWER:
        codes.append("static_answer")
    return tuple(codes)
