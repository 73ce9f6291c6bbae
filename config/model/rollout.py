"""Settings for changing a policy safely: experiments on a share of the traffic, and shadow traffic."""

from typing import Annotated, Any, Literal

import msgspec

from config.model.bounds import Count, PositiveShare, within
from config.model.table import Table

CONTROL = "control"
"""The arm to which the others are compared."""

Metric = Literal["error_rate", "ttft_miss", "fallback_rate", "escalation_rate", "truncation_rate"]


class Guard(Table, frozen=True):
    """Metrics that must not be worse in any arm than in `control`, tested sequentially after every answer."""

    metrics: tuple[Metric, ...] = ("error_rate",)
    alpha: Annotated[float, within(1e-9, 0.5)] = 0.01
    """Probability of a false alarm during the whole experiment, over all metrics and arms."""
    min_requests: Count = 50
    """An arm is not judged before it has this many answers."""
    then: Literal["roll_back", "warn"] = "roll_back"


class ExperimentSettings(Table, frozen=True, kw_only=True):
    """A canary or an A/B test: units of traffic are assigned to arms by hash, and some arms override the policy."""

    name: str
    route: tuple[str, ...]
    """Names of the routes in the experiment."""
    unit: Literal["request", "conversation", "user", "tenant"] = "conversation"
    arms: dict[str, float]
    """Percentage of the units, in total 100. The arm "control" overrides nothing."""
    override: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """By arm: dotted names of keys below [cascades], [ladders] or [routes.NAME], and the arm's values for them."""
    guard: Guard | None = None
    sample_ratio_alpha: Annotated[float, within(1e-9, 0.1)] = 0.001
    """Significance level of the test whether the arms get their percentages of the units; a mismatch is reported."""


class ShadowSettings(Table, frozen=True, kw_only=True):
    """A share of the requests is also sent to another rung; the answers are compared and discarded."""

    name: str
    route: tuple[str, ...]
    to: str
    share: PositiveShare
    """Share of the requests that are copied, 0..1."""
    concurrent: Annotated[int, within(1, 1000)] = 4
    """Maximum number of copies in flight; beyond it none are made."""
    adapter: str | None = None
    """The engine's adapter that answers the copy."""
