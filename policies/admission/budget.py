"""Budgets of tenants: reserve the worst-case cost, settle the actual cost, by calendar periods (UTC).

Unlike token quotas, which use sliding windows, a budget is reset at the start of its hour, day or month. The cost of a
request counts in the period in which the request was admitted.

Spending is counted for all three periods of every tenant, even without a budget, so that a budget that a new policy
adds, or moves to another period, takes into account what was already spent in that period. `set_aside` reserves from
quota and budget in one step.
"""

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from config.model.tenancy import Budget, TenantSettings
from policies.admission.quota import QuotaBook, QuotaRefusal, Reservation
from policies.errors import IntegrityError
from policies.model.features import Features

Period = Literal["hour", "day", "month"]
PERIODS: tuple[Period, ...] = ("hour", "day", "month")
_TOLERANCE = 1e-9
"""For comparing sums of floats, in money."""


class BudgetHold(msgspec.Struct, frozen=True, gc=False):
    """Money reserved for one request. Pass it to `settle` exactly once."""

    number: int
    tenant: str
    amount: float
    period: float
    """Start of the budget's period, seconds since 1970; -inf without a budget."""
    begins: Mapping[Period, float] = MappingProxyType({})
    """Start of every period that the hold counts in."""


class BudgetRefusal(msgspec.Struct, frozen=True, gc=False):
    """The remaining budget does not cover the worst-case cost of the request."""

    tenant: str
    view: "BudgetView"
    cost: float

    def __str__(self) -> str:
        view = self.view
        left = max(view.amount - view.spent - view.reserved, 0.0)
        return (
            f"The budget of {view.amount:g} per {view.per} of tenant {self.tenant} does not cover this request: it may "
            f"cost up to {self.cost:.6g}, and {left:.6g} is left. The budget renews in {view.resets_in_s:.0f} s. A "
            "lower max_tokens may let the request fit sooner."
        )


class BudgetView(msgspec.Struct, frozen=True, gc=False):
    """One tenant's budget at one moment."""

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
        return cost <= 0 or self.spent + self.reserved + cost <= self.amount + _TOLERANCE

    @property
    def used(self) -> float:
        return (self.spent + self.reserved) / self.amount


class _PeriodSum(msgspec.Struct, eq=False):
    """Money of one tenant in the current hour, day or month."""

    per: Period
    begin: float = float("-inf")
    end: float = float("-inf")
    spent: float = 0.0
    reserved: float = 0.0

    def advance(self, at: float) -> None:
        if at >= self.end:
            self.begin, self.end = period_begin(self.per, at), period_end(self.per, at)
            self.spent = self.reserved = 0.0


class _TenantSpending(msgspec.Struct, eq=False):
    sums: tuple[_PeriodSum, ...]
    budget: Budget | None = None
    next_end: float = float("-inf")
    """The earliest end of a current period."""
    begins: Mapping[Period, float] = {}
    """Of the current periods; a new mapping for new ones."""

    def advance(self, at: float) -> None:
        if at >= self.next_end:
            for period_sum in self.sums:
                period_sum.advance(at)
            self.next_end = min(period_sum.end for period_sum in self.sums)
            self.begins = {period_sum.per: period_sum.begin for period_sum in self.sums}


class BudgetBook:
    """All tenants' budgets. `at` is wall-clock time in seconds since 1970; if it runs backwards, periods are kept."""

    def __init__(self, tenants: Mapping[str, TenantSettings]) -> None:
        self._tenants: dict[str, _TenantSpending] = {}
        self._holds: dict[int, BudgetHold] = {}
        self._last_number = 0
        self._latest = float("-inf")
        self.apply_settings(tenants)

    def apply_settings(self, tenants: Mapping[str, TenantSettings]) -> None:
        """Replace the budgets. Spending is kept, also of a removed tenant until all of its current periods end."""
        for name in tenants:
            self._tenants.setdefault(name, _TenantSpending(tuple(map(_PeriodSum, PERIODS))))
        for name, spending in list(self._tenants.items()):
            spending.budget = tenants[name].budget if name in tenants else None
            if name not in tenants and all(period_sum.end <= self._latest for period_sum in spending.sums):
                del self._tenants[name]

    def view(self, tenant: str, at: float) -> BudgetView | None:
        spending = self._advanced(tenant, at)
        if spending is None or spending.budget is None:
            return None
        budget = spending.budget
        current = spending.sums[PERIODS.index(budget.per)]
        return BudgetView(budget.amount, budget.per, current.spent, current.reserved, current.end - at)

    def views(self, at: float) -> dict[str, BudgetView]:
        """By tenant, for tenants with a budget."""
        views = {tenant: self.view(tenant, at) for tenant in self._tenants}
        return {tenant: view for tenant, view in views.items() if view is not None}

    def reserve(self, tenant: str, cost: float, at: float) -> BudgetHold:
        """Reserve the worst-case cost without checking that it fits: see `BudgetView.fits`."""
        spending = self._advanced(tenant, at)
        begins: Mapping[Period, float] = {}
        period = float("-inf")
        if spending is not None:
            begins = spending.begins
            if cost:
                for period_sum in spending.sums:
                    period_sum.reserved += cost
            if spending.budget is not None:
                period = begins[spending.budget.per]
        self._last_number += 1
        hold = BudgetHold(self._last_number, tenant, cost, period, begins)
        self._holds[hold.number] = hold
        return hold

    def settle(self, hold: BudgetHold, cost: float) -> bool:
        """Charge the actual cost and release the hold. False, without effect, if it was settled before.

        `cost` may exceed the hold, when an upstream used more tokens than requested: it is charged in full.
        """
        if self._holds.pop(hold.number, None) is None:
            return False
        spending = self._tenants.get(hold.tenant)
        if spending is not None and (cost or hold.amount):
            for period_sum in spending.sums:
                if hold.begins.get(period_sum.per) == period_sum.begin:
                    period_sum.reserved = max(period_sum.reserved - hold.amount, 0.0)
                    period_sum.spent += max(cost, 0.0)
        return True

    def restore(self, tenant: str, spent: Mapping[Period, float], at: float) -> None:
        """Add what the tenant spent in the current periods before this process started."""
        spending = self._advanced(tenant, at)
        if spending is not None:
            for period_sum in spending.sums:
                period_sum.spent += spent.get(period_sum.per, 0.0)

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if holds and sums contradict each other."""
        for name, spending in self._tenants.items():
            for period_sum in spending.sums:
                held = sum(
                    hold.amount
                    for hold in self._holds.values()
                    if hold.tenant == name and hold.begins.get(period_sum.per) == period_sum.begin
                )
                if abs(held - period_sum.reserved) > 1e-6 * max(1.0, held):
                    raise IntegrityError(f"the money set aside for tenant '{name}' does not add up")

    def _advanced(self, tenant: str, at: float) -> _TenantSpending | None:
        self._latest = max(self._latest, at)
        spending = self._tenants.get(tenant)
        if spending is not None:
            spending.advance(at)
        return spending


def period_begin(per: Period, at: float) -> float:
    """Start of the hour, day or month that contains `at`, UTC. Times are seconds since 1970."""
    now = dt.datetime.fromtimestamp(at, dt.UTC)
    begin = now.replace(minute=0, second=0, microsecond=0)
    if per != "hour":
        begin = begin.replace(hour=0)
    if per == "month":
        begin = begin.replace(day=1)
    return begin.timestamp()


def period_end(per: Period, at: float) -> float:
    """Start of the next hour, day or month after `at`, UTC."""
    begin = dt.datetime.fromtimestamp(period_begin(per, at), dt.UTC)
    if per == "month":
        return (begin + dt.timedelta(days=32)).replace(day=1).timestamp()
    return (begin + (dt.timedelta(hours=1) if per == "hour" else dt.timedelta(days=1))).timestamp()


def spent_action(features: Features, budget: Budget) -> Features | None:
    """The request as `when_spent` changes it when it does not fit into its tenant's budget; None if it is refused."""
    if budget.when_spent == "downgrade":
        before = features.downgraded_from or features.tier
        return msgspec.structs.replace(features, tier=budget.downgrade_to or features.tier, downgraded_from=before)
    return msgspec.structs.replace(features, budget_spent=True) if budget.when_spent == "small_only" else None


def spending_options(features: Features, budget: Budget | None) -> tuple[Features, ...]:
    """The request unchanged, then as `when_spent` changes it: the first that fits into the budget is served."""
    changed = None if budget is None else spent_action(features, budget)
    return (features,) if changed is None else (features, changed)


class Grant(NamedTuple):
    """What was set aside for one request."""

    reservation: Reservation
    hold: BudgetHold


def set_aside(  # noqa: PLR0917  (a quota and a budget, each with its own clock)
    quota: QuotaBook,
    budgets: BudgetBook,
    tenant: str,
    tokens: int,
    cost: float,
    now: float,
    at: float,
    *,
    limited: bool = True,
) -> Grant | QuotaRefusal | BudgetRefusal:
    """Reserve both, or neither. Synchronous: no other request can be admitted between the check and the reservation.

    `now` is on the quotas' monotonic clock, `at` in seconds since 1970. `limited`: False never refuses. Raises
    UnknownTenant.
    """
    view = budgets.view(tenant, at) if limited else None
    if view is not None and not view.fits(cost):
        return BudgetRefusal(tenant, view, cost)
    reservation = quota.reserve(tenant, tokens, now, limited=limited)
    if isinstance(reservation, QuotaRefusal):
        return reservation
    return Grant(reservation, budgets.reserve(tenant, cost, at))
