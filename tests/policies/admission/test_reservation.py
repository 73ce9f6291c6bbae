"""A quota and a budget are set aside both, or neither."""

import pytest

from config.model.tenancy import Budget, TenantSettings, TokenQuota
from policies.admission.budget import BudgetBook, BudgetHold, BudgetRefusal
from policies.admission.quota import QuotaBook, QuotaRefusal, Reservation
from policies.admission.reservation import set_aside

NOON = 1_780_056_000.0
TENANTS = {
    "acme": TenantSettings(tokens=TokenQuota(per_minute=100), budget=Budget(amount=10.0, per="month")),
    "free": TenantSettings(),
}


@pytest.mark.parametrize(
    ("tokens", "cost", "kind"), [(100, 10.0, tuple), (101, 1.0, QuotaRefusal), (1, 10.5, BudgetRefusal)]
)
def test_both_or_neither(tokens: int, cost: float, kind: type) -> None:
    quota, budgets = QuotaBook(TENANTS), BudgetBook(TENANTS)
    found = set_aside(quota, budgets, "acme", tokens, cost, 5.0, NOON)
    assert isinstance(found, kind)
    view = budgets.view("acme", NOON)
    assert view is not None
    held = isinstance(found, tuple)
    assert quota.statistics(5.0).open == held
    assert view.reserved == (cost if held else 0.0)
    quota.check_integrity()
    budgets.check_integrity()


def test_who_has_no_limits_is_counted_all_the_same() -> None:
    quota, budgets = QuotaBook(TENANTS), BudgetBook(TENANTS)
    found = set_aside(quota, budgets, "free", 10**6, 10.0**6, 5.0, NOON)
    assert isinstance(found, tuple)
    reservation, hold = found
    assert (isinstance(reservation, Reservation), isinstance(hold, BudgetHold)) == (True, True)
    assert quota.statistics(5.0).tenants["free"].in_flight == 1
