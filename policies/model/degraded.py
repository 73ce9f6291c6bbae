"""The words in which an answer says that less was done than was asked for, or than the policy does on a good day.

They are told in the field `penstock`, in the header `x-penstock-degraded`, over WebSocket in `started` and `done`, in
the decision record and in the ledger. Users read them: none may change its meaning.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from policies.model.attempt_record import AttemptRecord

Degraded = Literal["budget_downgraded", "budget_small_only", "busy", "output_capped", "fallback", "static_answer"]
"""budget_downgraded, budget_small_only: what `when_spent` made of a request that did not fit into the budget.
busy: `when_busy` kept a cascade on its small stage. output_capped: the route allows fewer output tokens than the client
asked for. fallback: a rung before the one that answers has failed or refused. static_answer: a text of the policy."""
BY_BUDGET: frozenset[Degraded] = frozenset({"budget_downgraded", "budget_small_only"})


def with_the_way(planned: Sequence[Degraded], history: "Sequence[AttemptRecord]", rung: str) -> tuple[Degraded, ...]:
    """What the plan says, and what came on the way to the rung that answers."""
    words = list(planned)
    if history and any(each.outcome in {"failed", "refused"} and each.rung != rung for each in history):
        words.append("fallback")
    if rung == "static_answer":
        words.append("static_answer")
    return tuple(words)
