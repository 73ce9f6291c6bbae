"""Keeps a cascade within a daily budget by moving its threshold.

The remaining budget divided by the remaining time of the day (UTC) is a spending rate. Divided by the request rate, it
gives the money for one request; the part above the small stage's mean cost pays for escalations:

    share = (left / time_left / requests_per_second - cost_small) / cost_large

Future traffic is assumed to equal current traffic. The calibration maps the share to a threshold. Rates and costs are
exponential moving averages with the time constant `_MEMORY_S`.

A short burst must not be extrapolated to the whole day: `burst`, a share of the daily budget, may be spent ahead of an
even pace, in addition to what earlier hours did not spend. As long as that allowance lasts, the share is raised towards
1; it falls to the formula's value as the allowance is used up. The expected cost of running requests counts as spent.
"""

import math

from config.model.calibration import Calibration
from policies.admission.budget import period_begin, period_end
from policies.cascade.calibration import threshold_for_share

_MEMORY_S = 900.0
_MIN_MEMORY_S = 30.0
_MIN_REQUESTS = 10
"""With fewer requests the share keeps its initial value."""


class BudgetController:
    """The controller of one cascade. Mutable; times are wall-clock seconds since 1970."""

    def __init__(
        self, budget_per_day: float, calibration: Calibration, began_at: float, start_share: float, burst: float = 0.0
    ) -> None:
        """`burst`: the share of the budget that may be spent ahead of an even pace."""
        self.budget_per_day = budget_per_day
        self._burst = burst * budget_per_day
        self._held = 0.0
        """Expected cost of the requests that have not ended."""
        self._calibration = calibration
        self._day = period_begin("day", began_at)
        self._began_at = began_at
        self._last_at = began_at
        self.spent = 0.0
        """Money spent since the start of the day (UTC)."""
        self.share = self._start_share = start_share
        self._requests = 0
        self._weight = 0.0
        """Number of requests, exponentially weighted. `_small` and `_large` are sums of costs with the same weights."""
        self._small = 0.0
        self._large = 0.0

    @property
    def threshold(self) -> float:
        return threshold_for_share(self._calibration, self.share)

    def restore(self, spent: float) -> None:
        """Add what was spent today before this process started."""
        self.spent += spent

    def hold(self, at: float, max_cost: float) -> float:
        """Count a starting request. Returns its expected cost, at most `max_cost`, to be passed to `pay` as `held`."""
        expected = max_cost
        if self._requests >= _MIN_REQUESTS:
            expected = min(max_cost, (self._small + self.share * self._large) / self._weight)
        self._held += expected
        self.update(at)
        return expected

    def pay(self, at: float, cost: float, held: float = 0.0) -> None:
        """Charge a request that has ended, in any way. `held`: what `hold` returned for it."""
        self._start_day(at)
        self._held = max(self._held - held, 0.0)
        self.spent += cost
        self.update(at)

    def learn(self, at: float, small_cost: float, large_cost: float) -> None:
        """Take in an answered request: what it would cost on either stage."""
        fade = math.exp(-max(at - self._last_at, 0.0) / _MEMORY_S)
        self._last_at = max(at, self._last_at)
        self._weight = self._weight * fade + 1.0
        self._small = self._small * fade + small_cost
        self._large = self._large * fade + large_cost
        self._requests += 1
        self.share = self._next_share(at)

    def update(self, at: float) -> float:
        """Recompute the share for this time. Returns the threshold."""
        self._start_day(at)
        self.share = self._next_share(at)
        return self.threshold

    def _next_share(self, at: float) -> float:
        left = self.budget_per_day - self.spent - self._held
        if left <= 0:
            return 0.0
        steady = self._steady_share(at, left)
        return steady + (1 - steady) * self._burst_allowance(at, left)

    def _burst_allowance(self, at: float, left: float) -> float:
        """1 if half of the burst or more may still be spent ahead of an even pace, falling to 0 if nothing may."""
        if self._burst <= 0:
            return 0.0
        begin, end = period_begin("day", at), period_end("day", at)
        on_pace = self.budget_per_day * (at - begin) / (end - begin)
        allowance = min(on_pace + self._burst - (self.budget_per_day - left), left)
        return min(max(2 * allowance / self._burst, 0.0), 1.0)

    def _steady_share(self, at: float, left: float) -> float:
        """The share at which the budget lasts for the day if traffic does not change."""
        if self._requests < _MIN_REQUESTS:
            return self._start_share
        # An exponentially weighted count equals the rate times the integral of the weights over the elapsed time.
        passed = max(at - self._began_at, _MIN_MEMORY_S)
        memory = _MEMORY_S * (1 - math.exp(-passed / _MEMORY_S))
        rate = self._weight * math.exp(-max(at - self._last_at, 0.0) / _MEMORY_S) / memory
        small, large = self._small / self._weight, self._large / self._weight
        if large <= 0 or rate <= 0:
            return 1.0
        per_request = left / max(period_end("day", at) - at, 1.0) / rate
        return min(max((per_request - small) / large, 0.0), 1.0)

    def _start_day(self, at: float) -> None:
        day = period_begin("day", at)
        if day > self._day:
            self._day, self.spent = day, 0.0
