"""Budgets are never overspent, are reset with every period, and are set aside with a quota both, or neither."""

import datetime as dt
import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from config.model.tenancy import Budget, TenantSettings, TokenQuota
from policies.admission.budget import (
    BudgetBook,
    BudgetHold,
    BudgetRefusal,
    BudgetView,
    Grant,
    period_begin,
    period_end,
    set_aside,
)
from policies.admission.quota import QuotaBook, QuotaRefusal, Reservation

NOON = dt.datetime(2026, 2, 28, 12, 30, tzinfo=dt.UTC).timestamp()


def book(amount: float = 10.0, per: str = "day") -> BudgetBook:
    return BudgetBook({"acme": TenantSettings(budget=Budget(amount=amount, per=per)), "free": TenantSettings()})  # type: ignore[arg-type]


def fits(money: BudgetBook, tenant: str, cost: float, at: float) -> bool:
    view = money.view(tenant, at)
    return view is None or view.fits(cost)


@pytest.mark.parametrize(
    ("per", "begin", "end"),
    [
        ("hour", "2026-02-28T12:00", "2026-02-28T13:00"),
        ("day", "2026-02-28T00:00", "2026-03-01T00:00"),
        ("month", "2026-02-01T00:00", "2026-03-01T00:00"),
    ],
)
def test_periods_are_the_calendars(per: str, begin: str, end: str) -> None:
    assert period_begin(per, NOON) == dt.datetime.fromisoformat(begin + "+00:00").timestamp()  # type: ignore[arg-type]
    assert period_end(per, NOON) == dt.datetime.fromisoformat(end + "+00:00").timestamp()  # type: ignore[arg-type]


def test_the_worst_case_is_reserved_and_the_difference_released() -> None:
    money = book()
    assert fits(money, "acme", 8.0, NOON)
    hold = money.reserve("acme", 8.0, NOON)
    assert not fits(money, "acme", 3.0, NOON)
    assert money.settle(hold, 1.5)
    assert not money.settle(hold, 1.5)
    view = money.view("acme", NOON)
    assert view is not None
    assert (view.spent, view.reserved, view.used) == (1.5, 0.0, 0.15)
    money.reserve("acme", 1.0, NOON)
    view = money.view("acme", NOON)
    assert view is not None
    assert (view.spent, view.reserved, view.used) == (1.5, 1.0, 0.25)
    assert view.resets_in_s == 11.5 * 3600


def test_a_new_day_resets_the_budget_and_yesterdays_requests_do_not_count() -> None:
    money = book()
    hold = money.reserve("acme", 10.0, NOON)
    tomorrow = NOON + 86_400
    assert fits(money, "acme", 10.0, tomorrow)
    money.settle(hold, 10.0)
    assert fits(money, "acme", 10.0, tomorrow)
    money.check_integrity()


def test_without_a_budget_everything_fits() -> None:
    money = book()
    assert fits(money, "free", 1e9, NOON)
    hold = money.reserve("free", 1e9, NOON)
    assert money.view("free", NOON) is None
    assert money.settle(hold, 1e9)


def test_new_settings_keep_what_was_spent() -> None:
    money = book()
    money.restore("acme", {"hour": 1.0, "day": 6.0}, NOON)
    money.apply_settings({"acme": TenantSettings(budget=Budget(amount=7.0))})
    assert not fits(money, "acme", 2.0, NOON)
    money.apply_settings({"acme": TenantSettings(budget=Budget(amount=70.0, per="month"))})
    assert fits(money, "acme", 70.0, NOON)
    money.apply_settings({})
    assert fits(money, "acme", 1e9, NOON)


def test_usage_of_an_upstream_beyond_the_worst_case_is_charged() -> None:
    money = book()
    money.settle(money.reserve("acme", 4.0, NOON), 9.0)
    assert not fits(money, "acme", 2.0, NOON)
    # A cost of 0 always fits.
    assert fits(money, "acme", 0.0, NOON)


def test_a_tenant_that_is_added_again_within_the_period_keeps_its_spending() -> None:
    money, acme = book(), {"acme": TenantSettings(budget=Budget(amount=10.0, per="month"))}
    money.settle(money.reserve("acme", 8.0, NOON), 8.0)
    money.apply_settings({})
    money.apply_settings(acme)
    assert not fits(money, "acme", 3.0, NOON)
    money.apply_settings({})
    money.view("free", NOON + 40 * 86_400)
    money.apply_settings({})
    money.apply_settings(acme)
    assert fits(money, "acme", 10.0, NOON)


def test_a_view_of_a_share() -> None:
    view = BudgetView.of_share(Budget(amount=20.0, per="day"), 0.75, NOON)
    assert view == BudgetView(20.0, "day", 15.0, 0.0, 11.5 * 3600)
    assert view.used == 0.75


@pytest.mark.parametrize(
    ("spent", "reserved", "cost", "fits"),
    [
        (4.0, 3.0, 3.0, True),
        (4.0, 3.0, 3.1, False),
        (0.0, 0.0, 10.0, True),
        # Sums of floats may exceed the amount by their rounding.
        (0.1 + 0.2, 0.0, 9.7, True),
        (10.0, 0.0, 1e-3, False),
        # What costs nothing fits even if more was spent than there is.
        (12.0, 0.0, 0.0, True),
        (12.0, 1.0, 0.0, True),
    ],
)
def test_what_fits(spent: float, reserved: float, cost: float, *, fits: bool) -> None:
    assert BudgetView(10.0, "day", spent, reserved, 1.0).fits(cost) is fits


def test_a_refusal_says_what_is_left() -> None:
    for spent, left in ((7.5, "0.5 is left"), (11.0, "0 is left")):
        text = str(BudgetRefusal("acme", BudgetView(10.0, "day", spent, 2.0, 60.0), 3.0))
        assert "10 per day of tenant acme" in text
        assert "up to 3," in text
        assert left in text
        assert "renews in 60 s" in text


@pytest.mark.parametrize("per", ["hour", "day", "month"])
def test_a_period_begins_on_the_second(per: str) -> None:
    money = book(per=per)
    begin, end = period_begin(per, NOON + 1.75), period_end(per, NOON + 1.75)  # type: ignore[arg-type]
    assert begin == int(begin)
    money.settle(money.reserve("acme", 10.0, NOON), 10.0)
    assert not fits(money, "acme", 1.0, end - 0.5)
    assert fits(money, "acme", 10.0, end)
    # What was spent in a period that has ended counts in no later one.
    money.settle(money.reserve("acme", 10.0, end), 10.0)
    assert not fits(money, "acme", 1.0, end)
    assert period_begin(per, end) == end  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        ("2026-02-14T13:30", True),
        ("2026-02-15T12:30", True),
        ("2026-02-28T23:59", True),
        ("2026-03-01T00:00", False),
        ("2026-03-02T00:00", False),
    ],
)
def test_a_removed_tenant_is_kept_until_all_its_periods_end(last: str, *, kept: bool) -> None:
    acme = {"acme": TenantSettings(budget=Budget(amount=10.0, per="month"))}
    first = NOON - 14 * 86_400
    money = BudgetBook(acme)
    money.settle(money.reserve("acme", 8.0, first), 8.0)
    money.apply_settings({})
    fits(money, "other", 1.0, dt.datetime.fromisoformat(last + "+00:00").timestamp())
    money.apply_settings({})
    money.apply_settings(acme)
    view = money.view("acme", first)
    assert view is not None
    assert view.spent == (8.0 if kept else 0.0)


class Spending(RuleBasedStateMachine):
    """With reservations only of what fits, no budget is overspent."""

    holds: Bundle[BudgetHold] = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.money = book()
        self.now = NOON
        self.spent: dict[float, float] = {}

    @rule(target=holds, cost=st.floats(0.01, 8))
    def reserve(self, cost: float) -> BudgetHold:
        if not fits(self.money, "acme", cost, self.now):
            return BudgetHold(0, "acme", 0.0, 0.0)
        return self.money.reserve("acme", cost, self.now)

    @rule(hold=consumes(holds), part=st.floats(0, 1))
    def settle(self, hold: BudgetHold, part: float) -> None:
        if self.money.settle(hold, hold.amount * part):
            self.spent[hold.period] = self.spent.get(hold.period, 0.0) + hold.amount * part

    @rule(hours=st.integers(1, 20))
    def wait(self, hours: int) -> None:
        self.now += 3600 * hours

    @invariant()
    def never_more_than_there_is(self) -> None:
        self.money.check_integrity()
        assert all(spent <= 10.0 + 1e-6 for spent in self.spent.values())
        view = self.money.view("acme", self.now)
        assert view is not None
        assert math.isclose(view.spent, self.spent.get(period_begin("day", self.now), 0.0), abs_tol=1e-6)


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


MAY = 1_780_056_000.0
TENANTS = {
    "acme": TenantSettings(tokens=TokenQuota(per_minute=100), budget=Budget(amount=10.0, per="month")),
    "free": TenantSettings(),
}


@pytest.mark.parametrize(
    ("tokens", "cost", "kind"), [(100, 10.0, tuple), (101, 1.0, QuotaRefusal), (1, 10.5, BudgetRefusal)]
)
def test_both_or_neither(tokens: int, cost: float, kind: type) -> None:
    quota, budgets = QuotaBook(TENANTS), BudgetBook(TENANTS)
    found = set_aside(quota, budgets, "acme", tokens, cost, 5.0, MAY)
    assert isinstance(found, kind)
    view = budgets.view("acme", MAY)
    assert view is not None
    held = isinstance(found, tuple)
    assert quota.statistics(5.0).open == held
    assert view.reserved == (cost if held else 0.0)
    quota.check_integrity()
    budgets.check_integrity()


@pytest.mark.parametrize(("tokens", "cost"), [(101, 1.0), (1, 10.5)])
def test_what_belongs_to_an_answer_counts_and_is_not_refused(tokens: int, cost: float) -> None:
    quota, budgets = QuotaBook(TENANTS), BudgetBook(TENANTS)
    found = set_aside(quota, budgets, "acme", tokens, cost, 5.0, MAY, limited=False)
    assert isinstance(found, Grant)
    assert quota.statistics(5.0).tenants["acme"].reserved_tokens == tokens
    view = budgets.view("acme", MAY)
    assert view is not None
    assert view.reserved == cost
    quota.check_integrity()
    budgets.check_integrity()


def test_who_has_no_limits_is_counted_all_the_same() -> None:
    quota, budgets = QuotaBook(TENANTS), BudgetBook(TENANTS)
    found = set_aside(quota, budgets, "free", 10**6, 10.0**6, 5.0, MAY)
    assert isinstance(found, tuple)
    reservation, hold = found
    assert (isinstance(reservation, Reservation), isinstance(hold, BudgetHold)) == (True, True)
    assert quota.statistics(5.0).tenants["free"].in_flight == 1
