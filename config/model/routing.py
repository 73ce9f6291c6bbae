"""Where a request goes: routes, cascades and ladders."""

from pathlib import Path
from typing import Literal

import msgspec

from config.model.calibration import Calibration, Statistic
from config.model.conditions import SignalSettings
from config.model.table import Seconds, Table


class Use(Table, frozen=True):
    """What a route uses: exactly one of the two."""

    cascade: str | None = None
    ladder: str | None = None


class Deadlines(Table, frozen=True):
    """Counted from the request's arrival, `queue` and `stall` excepted."""

    queue: Seconds | None = None
    """The longest wait in the line of one engine or upstream; None: the tier's `queue.wait`."""
    ttft: Seconds = Seconds(30)
    stall: Seconds = Seconds(15)
    """Between two tokens."""
    total: Seconds = Seconds(120)


class Caps(Table, frozen=True):
    """Upper bounds that a route sets."""

    output_tokens: int | None = None


class Emit(Table, frozen=True):
    """What the client sees while it is undecided.

    Nothing (`gate`), all but the last `window` tokens (`window`), or what the large model has checked (`verified`).
    """

    mode: Literal["gate", "window", "verified"] = "gate"
    window: int = 8
    draft_tokens: int = 64
    """`verified`: tokens that the small model drafts in one round at the most."""
    off_above_batch: int = 2
    """`verified`: while the large engine runs more sequences than this, it answers alone."""


class RouteSettings(Table, frozen=True):
    """The first route whose `when` holds takes the request."""

    name: str
    use: Use
    when: SignalSettings = SignalSettings()
    owner: str = ""
    comment: str = ""
    deadlines: Deadlines = Deadlines()
    caps: Caps = Caps()
    emit: Emit | None = None
    """Instead of what its cascade says."""
    midstream: Literal["error", "continue", "restart"] = "error"
    on_content_filter: Literal["stop", "next"] = "stop"
    """What an upstream's content filter has refused: ends with 400 `content_filter`, or is asked of the next rung."""


TARGETS = ("large_share", "budget_per_day", "accuracy_of_large")
"""Of which a `Target` has exactly one."""


class Target(Table, frozen=True):
    """What a calibrated cascade keeps: exactly one of them."""

    large_share: float | None = None
    """Share of the requests that the large stage answers, 0..1."""
    hold: bool = False
    """With `large_share`: the threshold follows what the last answers did, so that the share is kept on any prompts."""
    budget_per_day: float | None = None
    """Money for both stages together, by [prices]; the threshold follows the day's spending (UTC)."""
    burst: float = 0.1
    """With `budget_per_day`: the share of it that may be spent ahead of an even pace, 0..1."""
    accuracy_of_large: float | None = None
    """Share of the large stage's accuracy on the calibration's prompts, 0..1."""


class Defer(Table, frozen=True, kw_only=True):
    """When the small model's answer is not trusted: by a calibration and the cascade's target, or by a number."""

    statistic: Statistic = "min_margin"
    calibration: Path | None = None
    """Made by `penstock policy calibrate`; relative to the TOML file."""
    stale_after: Seconds = Seconds(90 * 86_400)
    """A calibration older than this is warned of."""
    threshold: float | None = None
    """Nats: an answer whose statistic is smaller escalates."""
    artefact: Calibration | None = None
    """What `calibration` names, read when the file is loaded."""


class WhenBusy(Table, frozen=True):
    """Stay on a stage while a signal holds; hysteresis by `release_at` (of the same measure) and `dwell`."""

    signal: str
    stay_on: str
    release_at: float
    dwell: Seconds = Seconds(10)


class CascadeSettings(Table, frozen=True, kw_only=True):
    """Start small, escalate when the small model is probably wrong."""

    stages: tuple[str, ...]
    """The small rung and the large one."""
    target: Target | None = None
    defer: Defer = Defer()
    emit: Emit = Emit()
    atomic: tuple[Literal["tool_calls", "json"], ...] = ("tool_calls", "json")
    """What is shown whole or not at all: held until it is decided, whatever `emit` says."""
    skip_to_large: SignalSettings | None = None
    """Before generation: requests that the small model is not even asked."""
    when_busy: WhenBusy | None = None
    on_failure: str
    """The ladder that takes over when a stage cannot serve."""
    adapters: dict[str, str] = msgspec.field(default_factory=dict)
    """By stage: the adapter that it answers with."""


class BreakerSettings(Table, frozen=True):
    """When a rung is left alone."""

    failure_rate: float = 0.5
    over: Seconds = Seconds(30)
    at_least: int = 10
    open: Seconds = Seconds(5)
    probes: int = 3


class RungSettings(Table, frozen=True):
    """One rung: an engine or upstream (`to`), a static answer (`answer`), or another ladder's rungs (`ladder`)."""

    to: str | None = None
    answer: str | None = None
    ladder: str | None = None
    ttft: Seconds | None = None
    """Time to the first token on this rung; None: whatever the route still allows."""
    retries: int = 0
    """After a failure that another try may mend; the pauses between them grow."""
    wait_out: Seconds = Seconds(0)
    """Of an upstream: a pause that it asks for (`Retry-After`) is waited out, once, if it is not longer than this."""
    breaker: BreakerSettings = BreakerSettings()
    mark: str | None = None
    """A word that the response carries when this rung answered, such as "degraded"."""
    adapter: str | None = None
    """One of the engine's adapters, which answers here. A client that asks for one gets that instead."""


class RetryBudgetSettings(Table, frozen=True):
    """Retries allowed in relation to requests, shared by all: keeps a failing rung from being hammered."""

    ratio: float = 0.2
    min_per_second: float = 1.0
