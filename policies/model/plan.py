"""The plan of one request: what will be tried, in which order, until when, and why.

`policies.routing.policy` makes it.
"""

from typing import Literal

import msgspec

from config.model.calibration import Statistic
from policies.model.degraded import Degraded

Midstream = Literal["error", "continue", "restart"]
OnContentFilter = Literal["stop", "next"]
EmitMode = Literal["gate", "window", "verified"]
Atomic = Literal["tool_calls", "json"]


class PlannedRung(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One rung: an engine or upstream (`to`), or a static answer, exactly one of them."""

    to: str | None = None
    answer: str | None = None
    ttft_s: float | None = None
    """For an attempt on this rung; None: whatever the plan still allows."""
    retries: int = 0
    is_upstream: bool = False
    """Retries wait for a server elsewhere; an engine of ours is started again by its supervisor, at its own pace."""
    wait_out_s: float = 0.0
    """The longest pause asked for by the rung that is waited out."""
    mark: str | None = None
    tokenizer: str = ""
    """Two rungs with equal, non-empty values have the same tokenizer."""
    goes_on: bool = True
    """It can take up an answer that another rung has begun ..."""
    from_text: bool = False
    """... from its text, whatever tokenizer made it: an upstream."""
    adapter: str = ""
    """Which of the engine's adapters answers; "" is none."""


class PlannedCascade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Small first, large if the small one is probably wrong; each stage without retries of its own."""

    name: str = ""
    small: PlannedRung
    large: PlannedRung
    statistic: Statistic = "min_margin"
    threshold: float
    """Of the statistic; for margins, nats."""
    level: float | None = None
    """What `threshold` was made from, if the calibration looks at prompts: see `policies.cascade.prompt_model`."""
    mode: EmitMode
    window: int
    """Tokens held back in mode "window"."""
    draft_tokens: int = 64
    """Of one round in mode "verified", at the most."""
    off_above_batch: int = 2
    """In mode "verified" the large stage goes on alone while it runs more sequences than this."""
    atomic: tuple[Atomic, ...] = ("tool_calls", "json")
    """Held until it is decided, in every mode."""
    start_on: Literal["small", "large"]
    may_escalate: bool
    """False: what the small model says is taken unseen (`when_busy`, a spent budget), and nothing is held back."""
    why: str
    """Of `start_on` and `may_escalate`, a short stable word.

    "default", "asked_large", "busy", "budget", "small_unavailable", "tokenizers_differ", "several_choices".
    """

    @property
    def drafts(self) -> bool:
        """The large stage answers, and the small one drafts for it."""
        return self.mode == "verified" and self.start_on == "small" and self.may_escalate


class PlannedShadow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A copy of the request goes there, too; nobody sees its answer."""

    name: str
    to: str
    adapter: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was decided before the first token. `str(plan)` prints it."""

    route: str
    experiment: str = ""
    arm: str = ""
    """Of the experiment; "" if the request takes part in none."""
    ladder: str = ""
    rungs: tuple[PlannedRung, ...]
    """The ladder; with a cascade, the ladder that takes over when a stage cannot serve."""
    cascade: PlannedCascade | None
    shadows: tuple[PlannedShadow, ...] = ()
    queue_s: float | None = None
    """The longest wait for an engine; None: the tier's."""
    ttft_at: float
    """First content is due; for the climb as a whole."""
    total_at: float
    stall_s: float
    """Between two tokens."""
    output_cap: int | None
    """Output tokens of a choice at the most, by the route."""
    midstream: Midstream
    on_content_filter: OnContentFilter = "stop"
    reasons: tuple[str, ...]
    policy: str = ""
    """Digest of the policy that made it."""
    degraded: tuple[Degraded, ...] = ()
    """In which ways less will be done than was asked for."""

    @property
    def backends(self) -> tuple[str, ...]:
        """All that may answer, the likeliest first."""
        stages = [] if self.cascade is None else [self.cascade.small.to, self.cascade.large.to]
        names = [*stages, *(rung.to for rung in self.rungs)]
        return tuple(dict.fromkeys([name for name in names if name is not None]))

    @property
    def has_upstream(self) -> bool:
        """Whether one of them is a server elsewhere."""
        cascade = self.cascade
        stages = () if cascade is None else (cascade.small, cascade.large)
        return any(rung.is_upstream for rung in (*stages, *self.rungs))

    def __str__(self) -> str:
        arm = f", arm {self.arm} of {self.experiment}" if self.arm else ""
        lines = [f"route {self.route}{arm}", *(f"  because {reason}" for reason in self.reasons)]
        if self.cascade is not None:
            cascade = self.cascade
            rule = (
                "verifies drafts"
                if cascade.mode == "verified"
                else f"{cascade.mode}, escalates below {cascade.threshold:.6g} nats"
            )
            stages = f"{_named(cascade.small)} → {_named(cascade.large)}"
            lines.append(
                f"  cascade {stages}: starts on {cascade.start_on} ({cascade.why}), {rule}"
                + ("" if cascade.may_escalate else ", does not escalate")
            )
        for number, rung in enumerate(self.rungs, 1):
            what = _named(rung) if rung.to is not None else f"answer {rung.answer!r}"
            extras = [f"ttft {rung.ttft_s:g} s"] if rung.ttft_s is not None else []
            extras += [f"{rung.retries} retries"] if rung.retries else []
            extras += [f"waits out {rung.wait_out_s:g} s"] if rung.wait_out_s else []
            extras += [f"marked {rung.mark}"] if rung.mark else []
            lines.append(f"  rung {number}: {what}" + (f" ({', '.join(extras)})" if extras else ""))
        if self.on_content_filter == "next":
            lines.append("  what a content filter refuses goes on to the next rung")
        lines += [f"  shadow {shadow.name}: {_named(shadow)}" for shadow in self.shadows]
        return "\n".join(lines)


def gated(plan: Plan, reason: str) -> Plan:
    """The same, but nothing is released before the cascade has decided: tokens that are out bind the large model."""
    assert plan.cascade is not None
    cascade = msgspec.structs.replace(plan.cascade, mode="gate")
    return msgspec.structs.replace(plan, cascade=cascade, reasons=(*plan.reasons, f"gate instead of window: {reason}"))


def capped(plan: Plan, max_tokens: int) -> Plan:
    """Told, if the client asked for more output tokens than the route allows."""
    if plan.output_cap is None or max_tokens <= plan.output_cap:
        return plan
    return msgspec.structs.replace(plan, degraded=(*plan.degraded, "output_capped"))


def with_adapter(plan: Plan, adapter: str) -> Plan:
    """The same, but whatever answers does it with the adapter that the client asked for."""
    cascade = plan.cascade
    if cascade is not None:
        small, large = (msgspec.structs.replace(stage, adapter=adapter) for stage in (cascade.small, cascade.large))
        cascade = msgspec.structs.replace(cascade, small=small, large=large)
    rungs = tuple([rung if rung.to is None else msgspec.structs.replace(rung, adapter=adapter) for rung in plan.rungs])
    reasons = (*plan.reasons, f"adapter {adapter} was asked for")
    return msgspec.structs.replace(plan, cascade=cascade, rungs=rungs, reasons=reasons)


def _named(rung: PlannedRung | PlannedShadow) -> str:
    return f"{rung.to} with adapter {rung.adapter}" if rung.adapter else str(rung.to)
