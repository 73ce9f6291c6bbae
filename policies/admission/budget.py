"""Money that tenants may spend: reserve the worst case, settle the true cost, by the periods of the calendar (UTC).

Unlike token quotas, whose windows slide, a budget begins anew with its hour, day or month: that is what "50 a day"
says. What a request costs counts in the period in which it was let in.

Each tenant's money is counted for all three periods, whatever its budget says and without one, too: a budget that a new
policy brings, or moves to another period, begins with what was spent in that period so far.
"""

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from config.model.tenancy import Budget, TenantSettings
from policies.errors import IntegrityError
from policies.model.features import Features

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
    """Begin of its budget's period, in seconds since 1970."""
    begins: Mapping[Period, float] = MappingProxyType({})
    """Of all periods that it counts in."""


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

    @classmethod
    def of_share(cls, budget: Budget, used: float, at: float) -> "BudgetView":
        """Of a budget of which a share is used."""
        return cls(budget.amount, budget.per, used * budget.amount, 0.0, period_end(budget.per, at) - at)

    def fits(self, cost: float) -> bool:
        """Whether so much is left; always if it costs nothing."""
        return cost <= 0 or self.spent + self.reserved + cost <= self.amount + _TINY

    @property
    def used(self) -> float:
        """Share that is spent or reserved."""
        return (self.spent + self.reserved) / self.amount


class _Sum:
    """Of one tenant in one period."""

    __slots__ = ("begin", "end", "per", "reserved", "spent")

    def __init__(self, per: Period) -> None:
        self.per = per
        self.begin = self.end = float("-inf")
        self.spent = 0.0
        self.reserved = 0.0

    def turn(self, at: float) -> None:
        if at >= self.end:
            self.begin, self.end = period_begin(self.per, at), period_end(self.per, at)
            self.spent = self.reserved = 0.0


class _Purse:
    __slots__ = ("budget", "first_end", "sums")

    def __init__(self) -> None:
        self.budget: Budget | None = None
        self.sums = tuple(_Sum(per) for per in PERIODS)
        self.first_end = float("-inf")
        """Before it no period ends."""

    def turn(self, at: float) -> None:
        if at >= self.first_end:
            for each in self.sums:
                each.turn(at)
            self.first_end = min(each.end for each in self.sums)

    def of(self, budget: Budget) -> _Sum:
        return self.sums[PERIODS.index(budget.per)]


class BudgetBook:
    """All tenants' budgets. `at` is wall-clock time in seconds since 1970; should it run backwards, a period stays."""

    def __init__(self, tenants: Mapping[str, TenantSettings]) -> None:
        self._purses: dict[str, _Purse] = {}
        self._holds: dict[int, BudgetHold] = {}
        self._numbers = 0
        self._latest = float("-inf")
        """The last time that anybody has named."""
        self.apply_settings(tenants)

    def apply_settings(self, tenants: Mapping[str, TenantSettings]) -> None:
        """Other budgets from now on; what was spent in a period stays spent, also for a tenant that comes back."""
        for name in tenants:
            self._purses.setdefault(name, _Purse())
        for name, purse in list(self._purses.items()):
            purse.budget = tenants[name].budget if name in tenants else None
            if name not in tenants and all(each.end <= self._latest for each in purse.sums):
                del self._purses[name]

    def view(self, tenant: str, at: float) -> BudgetView | None:
        """None: the tenant has no budget."""
        purse = self._turned(tenant, at)
        if purse is None or purse.budget is None:
            return None
        budget = purse.budget
        money = purse.of(budget)
        return BudgetView(budget.amount, budget.per, money.spent, money.reserved, money.end - at)

    def views(self, at: float) -> dict[str, BudgetView]:
        """All budgets."""
        found = {tenant: self.view(tenant, at) for tenant in self._purses}
        return {tenant: view for tenant, view in found.items() if view is not None}

    def fits(self, tenant: str, cost: float, at: float) -> bool:
        """Whether so much is left; always without a budget, and always if it costs nothing."""
        view = self.view(tenant, at)
        return view is None or view.fits(cost)

    def reserve(self, tenant: str, cost: float, at: float) -> BudgetHold:
        """Set the worst case aside, whether it fits or not: ask `fits` first where that matters."""
        purse = self._turned(tenant, at)
        begins: dict[Period, float] = {}
        period = float("-inf")
        if purse is not None:
            for each in purse.sums:
                each.reserved += cost
                begins[each.per] = each.begin
            if purse.budget is not None:
                period = begins[purse.budget.per]
        self._numbers += 1
        hold = BudgetHold(self._numbers, tenant, cost, period, begins)
        self._holds[hold.number] = hold
        return hold

    def settle(self, hold: BudgetHold, cost: float) -> bool:
        """Charge the true cost and give back what was set aside. False: that was done before.

        An upstream may have used more than it was asked for: that money is gone, and counts.
        """
        if self._holds.pop(hold.number, None) is None:
            return False
        purse = self._purses.get(hold.tenant)
        if purse is not None:
            for each in purse.sums:
                if hold.begins.get(each.per) == each.begin:
                    each.reserved = max(each.reserved - hold.amount, 0.0)
                    each.spent += max(cost, 0.0)
        return True

    def restore(self, tenant: str, spent: Mapping[Period, float], at: float) -> None:
        """What the tenant had spent in the present periods before this process began."""
        purse = self._turned(tenant, at)
        if purse is not None:
            for each in purse.sums:
                each.spent += spent.get(each.per, 0.0)

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if holds and sums contradict each other."""
        for name, purse in self._purses.items():
            for each in purse.sums:
                held = sum(
                    hold.amount
                    for hold in self._holds.values()
                    if hold.tenant == name and hold.begins.get(each.per) == each.begin
                )
                if abs(held - each.reserved) > 1e-6 * max(1.0, held):
                    raise IntegrityError(f"the money set aside for tenant '{name}' does not add up")

    def _turned(self, tenant: str, at: float) -> _Purse | None:
        self._latest = max(self._latest, at)
        purse = self._purses.get(tenant)
        if purse is not None:
            purse.turn(at)
        return purse


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
            tier = budget.downgrade_to or features.tier
            return msgspec.structs.replace(
                features, tier=tier, downgraded_from=features.downgraded_from or features.tier
            )
        case "small_only":
            return msgspec.structs.replace(features, budget_spent=True)


def spending_options(features: Features, budget: Budget | None) -> tuple[Features, ...]:
    """The request as it is asked, and what `when_spent` makes of it: the first that fits into the budget is served."""
    left = None if budget is None else spent_action(features, budget)
    return (features,) if left is None else (features, left)
