"""The plan of one request: which rungs are tried, in which order, with which deadlines, and the reasons.

`policies.routing.policy.make_plan` creates it. Beside it: the record of an attempt, and the codes for degraded answers.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from config.model.calibration import Statistic
from config.model.judging import JudgeSettings
from config.model.media import Medium
from config.model.words import STATIC_ANSWER

AttemptOutcome = Literal["answered", "escalated", "failed", "refused"]


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """One attempt on one rung, for the response's `penstock` field, the decision record and the ledger."""

    rung: str
    outcome: AttemptOutcome
    why: str
    adapter: str = ""
    """The adapter of the attempt; "" is none."""
    said: str = ""
    """An upstream's own error code and message; "" if it sent none."""


Degraded = Literal[
    "budget_downgraded", "budget_small_only", "busy", "output_capped", "busy_capped", "fallback", "static_answer"
]
"""Codes for answers that got less than the client requested, or than the policy does without load and faults.

They are in the response field `penstock`, the header `x-penstock-degraded`, the WebSocket messages `started` and
`done`, the decision record and the ledger. They are a public interface: a code never changes its meaning.

budget_downgraded, budget_small_only: the request did not fit into the budget and `when_spent` changed it.
busy: `when_busy` kept a cascade on its small stage. output_capped: the route allows fewer output tokens than the client
requested. busy_capped: `caps.busy_output_tokens` allowed fewer than the client requested, or than without load.
fallback: an earlier rung failed or refused. static_answer: the answer is a text from the policy file."""
BY_BUDGET: frozenset[Degraded] = frozenset({"budget_downgraded", "budget_small_only"})


def degraded_codes(planned: Sequence[Degraded], history: Sequence[AttemptRecord], rung: str) -> tuple[Degraded, ...]:
    """The plan's codes, and those that result from the attempts before `rung`, the one that answers."""
    codes = tuple(planned)
    for attempt in history:
        if attempt.rung != rung and attempt.outcome in {"failed", "refused"}:
            codes += ("fallback",)
            break
    return codes if rung != STATIC_ANSWER else (*codes, "static_answer")


Midstream = Literal["error", "continue", "restart"]
OnContentFilter = Literal["stop", "next"]
EmitMode = Literal["gate", "window", "verified"]
Atomic = Literal["tool_calls", "json"]


class PlannedRung(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One rung: exactly one of `to` (an engine or upstream) and `answer` (a static text)."""

    to: str | None = None
    answer: str | None = None
    ttft_s: float | None = None
    """Limit on the time to first token of an attempt on this rung; None: only the plan's `ttft_at` applies."""
    retries: int = 0
    is_upstream: bool = False
    """Retries pause only for upstreams: an engine in this process is restarted by its supervisor."""
    wait_out_s: float = 0.0
    """The longest `Retry-After` of the rung that is waited for."""
    mark: str | None = None
    tokenizer: str = ""
    """Digest of the rung's tokenizer: equal, non-empty values mean the same tokenizer."""
    goes_on: bool = True
    """The rung can continue an answer that another rung began."""
    from_text: bool = False
    """The rung continues from text instead of token ids, so that tokenizers may differ. True for upstreams only."""
    adapter: str = ""
    """The adapter that the backend uses; "" is none."""
    takes: tuple[Medium, ...] = ()
    """What its prompts may contain beside text."""


class PlannedCascade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Try the small model first and the large one if the small answer is probably wrong. Stages are not retried."""

    name: str = ""
    small: PlannedRung
    large: PlannedRung
    statistic: Statistic = "min_margin"
    threshold: float
    """The answer escalates if its statistic is below; nats."""
    judge: JudgeSettings | None = None
    """What decides about an answer that is whole and that the statistic would accept."""
    level: float | None = None
    """With a prompt model, the level that `threshold` was computed from: see `policies.cascade.prompt_model`."""
    mode: EmitMode
    window: int
    """Tokens held back in mode "window"."""
    draft_tokens: int = 64
    """Maximum of one draft in mode "verified"."""
    off_above_batch: int = 2
    """In mode "verified" the large stage stops using drafts when it runs more sequences than this."""
    atomic: tuple[Atomic, ...] = ("tool_calls", "json")
    """Never released in part, in any mode."""
    start_on: Literal["small", "large"]
    may_escalate: bool
    """False (`when_busy`, a spent budget): the small answer is final and not held back, whatever its statistic."""
    why: str
    """Reason code for `start_on` and `may_escalate`, a stable word.

    "default", "asked_large", "busy", "budget", "small_unavailable", "tokenizers_differ", "several_choices".
    """

    @property
    def drafts(self) -> bool:
        """The large stage answers, and the small one drafts for it."""
        return self.mode == "verified" and self.start_on == "small" and self.may_escalate


class PlannedShadow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A copy of the request is sent to this rung, and its answer is only compared."""

    name: str
    to: str
    adapter: str = ""
    takes: tuple[Medium, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The decision for one request, made before its first token."""

    route: str
    experiment: str = ""
    arm: str = ""
    """The arm of `experiment`; "" if the request is in no experiment."""
    ladder: str = ""
    rungs: tuple[PlannedRung, ...]
    """The ladder; with a cascade, the ladder that is used when a stage cannot serve."""
    cascade: PlannedCascade | None
    shadows: tuple[PlannedShadow, ...] = ()
    queue_s: float | None = None
    """The longest wait in a backend queue; None: the tier's limit applies."""
    ttft_at: float
    """Deadline for the first content, over all attempts together. `ttft_at` and `total_at` are absolute times."""
    first_by: float | None = None
    """A rung where the first content is expected later refuses: by the tier's `admit_by`; an absolute time."""
    total_at: float
    stall_s: float
    """The longest time between two tokens."""
    output_cap: int | None
    """The route's limit on output tokens of one choice."""
    reasoning_cap: int | None = None
    """The route's limit on the tokens of one choice's reasoning."""
    midstream: Midstream
    on_content_filter: OnContentFilter = "stop"
    reasons: tuple[str, ...]
    policy: str = ""
    """Digest of the policy that made the plan."""
    degraded: tuple[Degraded, ...] = ()
    """Those that are known before the first attempt."""

    @property
    def backends(self) -> tuple[str, ...]:
        """All that may answer, the likeliest first."""
        rungs = self.rungs if self.cascade is None else (self.cascade.small, self.cascade.large, *self.rungs)
        return tuple(dict.fromkeys([rung.to for rung in rungs if rung.to is not None]))

    @property
    def has_upstream(self) -> bool:
        cascade = self.cascade
        stages = () if cascade is None else (cascade.small, cascade.large)
        return any(rung.is_upstream for rung in (*stages, *self.rungs))


def gated(plan: Plan, reason: str) -> Plan:
    """The plan of a cascade with mode "gate": no token is released before the cascade decides."""
    assert plan.cascade is not None
    cascade = msgspec.structs.replace(plan.cascade, mode="gate")
    return msgspec.structs.replace(plan, cascade=cascade, reasons=(*plan.reasons, f"gate instead of window: {reason}"))


def capped(plan: Plan, max_tokens: int) -> Plan:
    """The plan, with the code "output_capped" if `max_tokens` of the request exceeds the route's limit."""
    if plan.output_cap is None or max_tokens <= plan.output_cap or "busy_capped" in plan.degraded:
        return plan
    return msgspec.structs.replace(plan, degraded=(*plan.degraded, "output_capped"))


def with_adapter(plan: Plan, adapter: str) -> Plan:
    """The plan, with the adapter that the client requested on every rung and stage."""
    cascade = plan.cascade
    if cascade is not None:
        small, large = (msgspec.structs.replace(stage, adapter=adapter) for stage in (cascade.small, cascade.large))
        cascade = msgspec.structs.replace(cascade, small=small, large=large)
    rungs = tuple([rung if rung.to is None else msgspec.structs.replace(rung, adapter=adapter) for rung in plan.rungs])
    reasons = (*plan.reasons, f"adapter {adapter} was asked for")
    return msgspec.structs.replace(plan, cascade=cascade, rungs=rungs, reasons=reasons)
