"""Keeps a cascade within a day's money: the threshold follows what is left and what is still to come.

What is left of the budget, spread over what is left of the day (UTC), is a rate that may be spent. Divided by the rate
of requests, that is money for one request. What exceeds the small stage's mean cost pays for escalations:

    share = (left / time_left / requests_a_second - cost_small) / cost_large

Nobody knows the traffic to come: it is taken to go on as it is now. The calibration turns the share into a threshold.
Rates and costs are exponential means that forget with `_MEMORY_S`.

A burst is not taken for the traffic of the whole day: `burst`, a share of the day's money, may be spent ahead of an
even pace, and whatever quieter hours have left over, too. While there is room ahead of the pace the share is raised,
towards one; it comes down to the formula's as the room is used up. Money of requests that still run counts as spent.
"""

import math

from config.model.calibration import Calibration
from policies.admission.budget import period_begin, period_end
from policies.cascade.calibration import threshold_for_share

_MEMORY_S = 900.0
_LEAST_MEMORY_S = 30.0
_ENOUGH_REQUESTS = 10
"""Before so many requests the share stays where it began."""


class BudgetController:
    """One cascade's. Mutable; times are wall-clock seconds since 1970."""

    def __init__(
        self, budget_per_day: float, calibration: Calibration, began_at: float, start_share: float, burst: float = 0.0
    ) -> None:
        """`burst`: share of the budget that may be spent ahead of an even pace."""
        self.budget_per_day = budget_per_day
        self._burst = burst * budget_per_day
        self._held = 0.0
        """By requests that have not ended."""
        self._calibration = calibration
        self._day = period_begin("day", began_at)
        self._began_at = began_at
        self._last_at = began_at
        self.spent = 0.0
        """Today."""
        self.share = self._start_share = start_share
        self._requests = 0
        self._weight = 0.0
        self._small = 0.0
        self._large = 0.0

    @property
    def threshold(self) -> float:
        """For the present share."""
        return threshold_for_share(self._calibration, self.share)

    def restore(self, spent: float) -> None:
        """What was spent today before this process began."""
        self.spent += spent

    def hold(self, at: float, most: float) -> float:
        """A request begins that may cost `most`; the money that is expected of it, to be given to `pay`."""
        expected = most
        if self._requests >= _ENOUGH_REQUESTS:
            expected = min(most, (self._small + self.share * self._large) / self._weight)
        self._held += expected
        self.update(at)
        return expected

    def pay(self, at: float, cost: float, held: float = 0.0) -> None:
        """A request has ended, in whatever way: what it cost, and what `hold` gave for it."""
        self._turn(at)
        self._held = max(self._held - held, 0.0)
        self.spent += cost
        self.update(at)

    def learn(self, at: float, small_cost: float, large_cost: float) -> None:
        """A request was answered, and either stage costs so much for one like it."""
        fade = math.exp(-max(at - self._last_at, 0.0) / _MEMORY_S)
        self._last_at = max(at, self._last_at)
        self._weight = self._weight * fade + 1.0
        self._small = self._small * fade + small_cost
        self._large = self._large * fade + large_cost
        self._requests += 1
        self.share = self._next_share(at)

    def update(self, at: float) -> float:
        """The threshold at this time, also while nothing ends."""
        self._turn(at)
        self.share = self._next_share(at)
        return self.threshold

    def _next_share(self, at: float) -> float:
        left = self.budget_per_day - self.spent - self._held
        if left <= 0:
            return 0.0
        steady = self._steady_share(at, left)
        return steady + (1 - steady) * self._room(at, left)

    def _room(self, at: float, left: float) -> float:
        """How much may be spent ahead of an even pace: from 1, half of the burst's money and more, to 0, none."""
        if self._burst <= 0:
            return 0.0
        begin, end = period_begin("day", at), period_end("day", at)
        on_pace = self.budget_per_day * (at - begin) / (end - begin)
        room = min(on_pace + self._burst - (self.budget_per_day - left), left)
        return min(max(2 * room / self._burst, 0.0), 1.0)

    def _steady_share(self, at: float, left: float) -> float:
        """So that the money lasts if the traffic stays as it is."""
        if self._requests < _ENOUGH_REQUESTS:
            return self._start_share
        # The sum of faded ones is a rate times the memory that has passed so far.
        passed = max(at - self._began_at, _LEAST_MEMORY_S)
        memory = _MEMORY_S * (1 - math.exp(-passed / _MEMORY_S))
        rate = self._weight * math.exp(-max(at - self._last_at, 0.0) / _MEMORY_S) / memory
        small, large = self._small / self._weight, self._large / self._weight
        if large <= 0 or rate <= 0:
            return 1.0
        a_request = left / max(period_end("day", at) - at, 1.0) / rate
        return min(max((a_request - small) / large, 0.0), 1.0)

    def _turn(self, at: float) -> None:
        day = period_begin("day", at)
        if day > self._day:
            self._day, self.spent = day, 0.0
