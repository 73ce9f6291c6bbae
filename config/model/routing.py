"""Settings of routes, cascades and ladders."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from config.model.bounds import Count, Finite, Natural, Positive, PositiveShare, Share, within
from config.model.calibration import Calibration, Statistic
from config.model.conditions import SignalSettings
from config.model.judging import JudgeSettings
from config.model.table import NonNegativeSeconds, PositiveSeconds, Seconds, Table


class Use(Table, frozen=True):
    """What a route uses: exactly one of a cascade and a ladder."""

    cascade: str | None = None
    ladder: str | None = None


class Deadlines(Table, frozen=True):
    """Time limits, from the request's arrival except `queue` and `stall`."""

    queue: PositiveSeconds | None = None
    """The longest wait in the queue of one backend; None: the tier's `queue.wait`."""
    ttft: PositiveSeconds = Seconds(30)
    """To the first token that a rung makes; one that another rung could follow has two thirds of what is left."""
    stall: PositiveSeconds = Seconds(15)
    """The longest time between two tokens."""
    total: PositiveSeconds = Seconds(120)


class Caps(Table, frozen=True):
    """Upper bounds that a route sets."""

    output_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    """Of the reasoning of engines, its markers included: then the engine closes it, and goes on with the answer. None:
    it may have as many as the answer."""
    busy_output_tokens: Count | None = None
    """The bound while the first rung is busy: answers become shorter before requests are refused."""
    busy_at: Positive = 0.5
    """It is busy while its expected wait is at least this part of the tier's `slo.ttft`."""


class Emit(Table, frozen=True):
    """What the client receives before the cascade decides whether the answer escalates.

    Nothing (`gate`), all but the last `window` tokens (`window`), or what the large model has verified (`verified`).
    """

    mode: Literal["gate", "window", "verified"] = "gate"
    window: Count = 8
    draft_tokens: Annotated[int, within(1, 1024)] = 64
    """`verified`: maximum length of one draft of the small model."""
    off_above_batch: Natural = 2
    """`verified`: if the large engine runs more sequences than this, it answers without drafts."""


class RouteSettings(Table, frozen=True):
    """One route. A request takes the first route whose `when` holds."""

    name: str
    use: Use
    when: SignalSettings = SignalSettings()
    owner: str = ""
    comment: str = ""
    deadlines: Deadlines = Deadlines()
    caps: Caps = Caps()
    emit: Emit | None = None
    """Replaces the `emit` of the route's cascade."""
    midstream: Literal["error", "continue", "restart"] = "continue"
    """If a rung fails after content was sent: continue on the next that can, restart where none of the answer was sent,
    or end with an error."""
    on_content_filter: Literal["stop", "next"] = "stop"
    """If an upstream's content filter refuses: end with 400 `content_filter`, or try the next rung."""


LOWEST_THRESHOLD = -1000
"""In nats: every answer reaches it."""
TARGETS = ("large_share", "budget_per_day", "accuracy_of_large")
"""A `Target` has exactly one of these."""


class Target(Table, frozen=True):
    """The target of a calibrated cascade: exactly one of large_share, budget_per_day and accuracy_of_large."""

    large_share: Share | None = None
    """Share of the requests that the large stage answers, 0..1."""
    hold: bool = False
    """With `large_share`: adjust the threshold by recent answers, so that the share is kept on any traffic."""
    budget_per_day: Positive | None = None
    """Money for both stages together, by [prices]; the threshold follows the day's spending (UTC)."""
    burst: Share = 0.1
    """With `budget_per_day`: the share of it that may be spent ahead of an even pace, 0..1."""
    accuracy_of_large: PositiveShare | None = None
    """Share of the large stage's accuracy on the calibration's prompts, 0..1."""


class Defer(Table, frozen=True, kw_only=True):
    """When the small model's answer escalates: by a calibration and the cascade's target, or by a fixed threshold.

    Neither is needed where a judge decides.
    """

    statistic: Statistic = "min_margin"
    calibration: Path | None = None
    """A file made by `penstock policy calibrate`; relative to the TOML file."""
    stale_after: PositiveSeconds = Seconds(90 * 86_400)
    """Warn about a calibration that is older than this."""
    threshold: Annotated[float, within(LOWEST_THRESHOLD)] | None = None
    """Nats: an answer whose statistic is smaller escalates."""
    artefact: Calibration | None = None
    """The calibration, read when the file is loaded."""


class WhenBusy(Table, frozen=True):
    """Stay on one stage while a signal holds, at least for `dwell` and until its measure is below `release_at`."""

    signal: str
    stay_on: str
    release_at: Finite
    dwell: NonNegativeSeconds = Seconds(10)


class CascadeSettings(Table, frozen=True, kw_only=True):
    """Start small, escalate when the small model is probably wrong."""

    stages: tuple[str, ...]
    """Names of the small rung and of the large one."""
    target: Target | None = None
    defer: Defer = Defer()
    judge: JudgeSettings | None = None
    """What reads an answer that `defer` would accept, or every one if `defer` is left out."""
    emit: Emit = Emit()
    atomic: tuple[Literal["tool_calls", "json"], ...] = ("tool_calls", "json")
    """Parts of an answer that are never released before they are complete, whatever `emit` says."""
    skip_to_large: SignalSettings | None = None
    """Requests that start on the large stage."""
    when_busy: WhenBusy | None = None
    on_failure: str
    """The ladder that is used if a stage cannot serve."""
    adapters: dict[str, str] = msgspec.field(default_factory=dict)
    """By stage: the adapter that it uses."""


class BreakerSettings(Table, frozen=True):
    """The circuit breaker of a rung. It opens at `failure_rate` over at least `at_least` requests within `over`.

    With `slow_after` it opens at `slow_rate` as well, and a slow probe keeps it open.
    """

    failure_rate: PositiveShare = 0.5
    slow_after: PositiveSeconds | None = None
    """An answer is slow if its first token came so long after it left the queue; None: none is."""
    slow_rate: PositiveShare = 1.0
    over: PositiveSeconds = Seconds(30)
    at_least: Count = 10
    open: PositiveSeconds = Seconds(5)
    probes: Count = 3


class RungSettings(Table, frozen=True):
    """One rung: an engine or upstream (`to`), a static answer (`answer`), or another ladder's rungs (`ladder`)."""

    to: str | None = None
    answer: str | None = None
    ladder: str | None = None
    ttft: PositiveSeconds | None = None
    """Limit on the time to first token on this rung; None: see the route's `ttft`."""
    retries: Annotated[int, within(0, 10)] = 0
    """Retries after transient failures, with increasing pauses; as many again after the first content."""
    wait_out: NonNegativeSeconds = Seconds(0)
    """For upstreams: the longest `Retry-After` that is waited for, once, before the next rung is tried."""
    breaker: BreakerSettings = BreakerSettings()
    mark: str | None = None
    """A word in the response if this rung answered, such as "degraded"."""
    adapter: str | None = None
    """The engine's adapter that this rung uses, unless the client requests another one."""


class RetryBudgetSettings(Table, frozen=True):
    """How many retries may run at the same time, over all rungs, so that they do not overload one that is failing."""

    share: Share = 0.2
    """Of the requests that are active now."""
    at_least: Natural = 3
    """So many may run however few requests are active."""
