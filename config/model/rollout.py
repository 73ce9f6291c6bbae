"""Changing a policy safely: experiments on a share of the traffic, and shadows that no client sees."""

from typing import Any, Literal

import msgspec

from config.model.table import Table

Metric = Literal["error_rate", "ttft_miss", "fallback_rate", "escalation_rate", "truncation_rate"]


class Guard(Table, frozen=True):
    """What must not get worse in any arm than in `control`, tested as the answers come in."""

    metrics: tuple[Metric, ...] = ("error_rate",)
    alpha: float = 0.01
    """Chance of a false alarm over the whole experiment, all metrics and arms together, however long one looks."""
    min_requests: int = 50
    """An arm is judged from so many answers on."""
    then: Literal["roll_back", "warn"] = "roll_back"


class ExperimentSettings(Table, frozen=True, kw_only=True):
    """A canary or an A/B test: units of traffic are split by a sticky hash, and some arms override the policy."""

    name: str
    route: tuple[str, ...]
    """The routes that it concerns."""
    unit: Literal["request", "conversation", "user", "tenant"] = "conversation"
    arms: dict[str, float]
    """Percent of the units; they add up to 100. The arm "control" overrides nothing."""
    override: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """By arm: the dotted name of a key anywhere below [cascades], [ladders] or [routes.NAME], and its other value."""
    guard: Guard | None = None
    sample_ratio_alpha: float = 0.001
    """A split that differs from `arms` so much that chance explains it less often than this is reported."""


class ShadowSettings(Table, frozen=True, kw_only=True):
    """A copy of a share of the requests also goes to another rung; its answer is counted and thrown away."""

    name: str
    route: tuple[str, ...]
    to: str
    share: float
    """Of the requests, 0..1."""
    concurrent: int = 4
    """Copies in flight at the most; more are not made."""
    adapter: str | None = None
    """One of that engine's adapters, which answers the copy."""
