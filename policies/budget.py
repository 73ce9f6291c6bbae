"""Money that tenants may spend: reserve the worst case, settle the true cost, by the periods of the calendar (UTC).

Unlike token quotas, whose windows slide, a budget begins anew with its hour, day or month: that is what "50 a day"
says. What a request costs counts in the period in which it was let in.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Literal

import msgspec

from config.who import Budget, TenantSettings
from policies.errors import IntegrityError
from policies.features import Features

WhenSpent = Literal["refuse", "downgrade", "small_only"]
Period = Literal["hour", "day", "month"]
PERIODS: tuple[Period, ...] = ("hour", "day", "month")
_TINY = 1e-9
"""Sums of floats are compared with this patience, in money."""


class BudgetHold(msgspec.Struct, frozen=True, gc=False):
    """Money set aside for one request; give it back with `settle`, exactly once."""

    number: int
    tenant: str
    amount: float
    period: float
    """Begin of the period that it counts in, in seconds since 1970."""


class BudgetRefusal(msgspec.Struct, frozen=True, gc=False):
    """What is left does not cover the most that the request can cost."""

    tenant: str
    view: "BudgetView"
    cost: float

    def __str__(self) -> str:
        view = self.view
        left = max(view.amount - view.spent - view.reserved, 0.0)
        return (
            f"The budget of {view.amount:g} per {view.per} of tenant {self.tenant} does not cover this request: it may "
            f"cost up to {self.cost:.6g}, and {left:.6g} is left. There is new money in {view.resets_in_s:.0f} s; with "
            "a lower max_tokens the request may fit before."
        )


class BudgetView(msgspec.Struct, frozen=True, gc=False):
    """One tenant's budget now."""

    amount: float
    per: Period
    spent: float
    reserved: float
    resets_in_s: float

    @property
    def used(self) -> float:
        """Share that is spent or reserved."""
        return (self.spent + self.reserved) / self.amount


class _Purse:
    __slots__ = ("budget", "period", "reserved", "spent")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.period = float("-inf")
        self.spent = 0.0
        self.reserved = 0.0

    def turn(self, at: float) -> None:
        period = period_begin(self.budget.per, at)
        if period > self.period:
            self.period, self.spent, self.reserved = period, 0.0, 0.0


class BudgetBook:
    """All tenants' budgets. `at` is wall-clock time in seconds since 1970; should it run backwards, a period stays."""

    def __init__(self, tenants: Mapping[str, TenantSettings]) -> None:
        self._purses: dict[str, _Purse] = {}
        self._holds: dict[int, BudgetHold] = {}
        self._numbers = 0
        self.adopt(tenants)

    def adopt(self, tenants: Mapping[str, TenantSettings]) -> None:
        """Other settings from now on; what was spent in a period of the same length stays spent."""
        purses = {}
        for name, tenant in tenants.items():
            if tenant.budget is None:
                continue
            purse = self._purses.get(name)
            if purse is None or purse.budget.per != tenant.budget.per:
                purse = _Purse(tenant.budget)
            purse.budget = tenant.budget
            purses[name] = purse
        self._purses = purses

    def view(self, tenant: str, at: float) -> BudgetView | None:
        """None: the tenant has no budget."""
        purse = self._purses.get(tenant)
        if purse is None:
            return None
        purse.turn(at)
        budget = purse.budget
        resets_in_s = period_end(budget.per, at) - at
        return BudgetView(budget.amount, budget.per, purse.spent, purse.reserved, resets_in_s)

    def views(self, at: float) -> dict[str, BudgetView]:
        """All budgets."""
        found = {tenant: self.view(tenant, at) for tenant in self._purses}
        return {tenant: view for tenant, view in found.items() if view is not None}

    def fits(self, tenant: str, cost: float, at: float) -> bool:
        """Whether so much is left; always without a budget."""
        purse = self._purses.get(tenant)
        if purse is None:
            return True
        purse.turn(at)
        return purse.spent + purse.reserved + cost <= purse.budget.amount + _TINY

    def reserve(self, tenant: str, cost: float, at: float) -> BudgetHold:
        """Set the worst case aside, whether it fits or not: ask `fits` first where that matters."""
        purse = self._purses.get(tenant)
        period = float("-inf")
        if purse is not None:
            purse.turn(at)
            purse.reserved += cost
            period = purse.period
        self._numbers += 1
        hold = BudgetHold(self._numbers, tenant, cost, period)
        self._holds[hold.number] = hold
        return hold

    def settle(self, hold: BudgetHold, cost: float) -> bool:
        """Charge the true cost, at most what was set aside, and give back the rest. False: that was done before."""
        if self._holds.pop(hold.number, None) is None:
            return False
        purse = self._purses.get(hold.tenant)
        if purse is not None and purse.period == hold.period:
            purse.reserved = max(purse.reserved - hold.amount, 0.0)
            purse.spent += min(max(cost, 0.0), hold.amount)
        return True

    def restore(self, tenant: str, spent: Mapping[Period, float], at: float) -> None:
        """What the tenant had spent in the present periods before this process began."""
        purse = self._purses.get(tenant)
        if purse is not None:
            purse.turn(at)
            purse.spent += spent.get(purse.budget.per, 0.0)

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if holds and sums contradict each other."""
        for name, purse in self._purses.items():
            held = sum(
                hold.amount for hold in self._holds.values() if hold.tenant == name and hold.period == purse.period
            )
            if abs(held - purse.reserved) > 1e-6 * max(1.0, held):
                raise IntegrityError(f"the money set aside for tenant '{name}' does not add up")


def period_begin(per: Period, at: float) -> float:
    """The begin of the hour, day or month in which `at` lies, UTC."""
    now = dt.datetime.fromtimestamp(at, dt.UTC)
    begin = now.replace(minute=0, second=0, microsecond=0)
    if per != "hour":
        begin = begin.replace(hour=0)
    if per == "month":
        begin = begin.replace(day=1)
    return begin.timestamp()


def period_end(per: Period, at: float) -> float:
    """The begin of the next one."""
    begin = dt.datetime.fromtimestamp(period_begin(per, at), dt.UTC)
    match per:
        case "hour":
            return (begin + dt.timedelta(hours=1)).timestamp()
        case "day":
            return (begin + dt.timedelta(days=1)).timestamp()
        case "month":
            return (begin + dt.timedelta(days=32)).replace(day=1).timestamp()


def spent_action(features: Features, budget: Budget) -> Features | None:
    """The request as it goes on when it does not fit into its tenant's budget; None: it is refused."""
    match budget.when_spent:
        case "refuse":
            return None
        case "downgrade":
            return msgspec.structs.replace(features, tier=budget.downgrade_to or features.tier)
        case "small_only":
            return msgspec.structs.replace(features, budget_spent=True)
