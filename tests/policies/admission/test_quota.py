"""Quotas: no over-spending, no leak, exactly one settlement, refusals that are true and do not count."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from config.model.tenancy import TenantSettings, TokenQuota
from policies.admission.quota import QuotaBook, QuotaRefusal, RateLimits, Reservation, Used, WindowLimit
from policies.errors import IntegrityError, UnknownTenant


def book(**limits: int) -> QuotaBook:
    tokens = TokenQuota(per_minute=limits.pop("per_minute", None), per_day=limits.pop("per_day", None))
    return QuotaBook({"acme": TenantSettings(tokens=tokens, **limits), "other": TenantSettings()})


def reserve(quota: QuotaBook, tokens: int, now: float) -> Reservation:
    given = quota.reserve("acme", tokens, now)
    assert isinstance(given, Reservation), given
    return given


def refuse(quota: QuotaBook, tokens: int, now: float) -> QuotaRefusal:
    given = quota.reserve("acme", tokens, now)
    assert isinstance(given, QuotaRefusal), given
    return given


def test_the_worst_case_is_reserved_and_unused_tokens_are_released() -> None:
    quota = book(per_minute=1000)
    first = reserve(quota, 800, 0.0)
    assert refuse(quota, 300, 0.0).used == 800
    assert quota.settle(first, 100)
    reserve(quota, 900, 1.0)
    assert quota.statistics(1.0).tenants["acme"].minute_tokens == 1000


def test_a_refusal_names_limit_scope_and_reset() -> None:
    quota = book(per_minute=1000)
    quota.settle(reserve(quota, 600, 0.5), 600)
    quota.settle(reserve(quota, 400, 20.0), 400)
    refusal = refuse(quota, 500, 30.0)
    assert (refusal.limit, refusal.scope, refusal.limit_value, refusal.used) == (
        "tokens_per_minute",
        "tenant acme",
        1000,
        1000,
    )
    assert refusal.resets_in_s == pytest.approx(31.0)
    assert "1000 tokens per minute of tenant acme" in str(refusal)
    refuse(quota, 500, 30.0 + refusal.resets_in_s - 0.01)
    reserve(quota, 500, 30.0 + refusal.resets_in_s)


def test_what_would_be_refused_is_known_and_nothing_is_counted() -> None:
    quota = book(per_minute=100, concurrent=2)
    assert quota.refusal("acme", 100, 0.0) is None
    reserve(quota, 60, 0.0)
    before = quota.statistics(0.0)
    assert quota.refusal("acme", 40, 0.0) is None
    refusal = quota.refusal("acme", 41, 0.0)
    assert quota.statistics(0.0) == before
    assert refusal == refuse(quota, 41, 0.0)
    reserve(quota, 1, 0.0)
    assert getattr(quota.refusal("acme", 1, 0.0), "limit", None) == "concurrent"
    assert quota.refusal("other", 10**9, 0.0) is None
    assert quota.refusal("nobody", 1, 0.0) is None


def test_a_refusal_of_what_never_fits_says_so() -> None:
    refusal = refuse(book(per_minute=1000), 1001, 0.0)
    assert refusal.resets_in_s is None
    assert "may need up to 1001 tokens, more than the limit of 1000 tokens per minute" in str(refusal)


def test_the_longest_wait_is_reported() -> None:
    quota = book(per_minute=1000, per_day=1000)
    quota.settle(reserve(quota, 1000, 0.0), 1000)
    refusal = refuse(quota, 1, 1.0)
    assert refusal.limit == "tokens_per_day"
    assert refusal.resets_in_s == pytest.approx(86_400 + 300 - 1)


def test_requests_per_minute_and_at_once() -> None:
    quota = book(requests_per_minute=2, concurrent=1)
    first = reserve(quota, 1, 0.0)
    assert refuse(quota, 1, 0.0) == QuotaRefusal("concurrent", "tenant acme", 1, 1, 1, None)
    quota.settle(first, 1)
    quota.settle(reserve(quota, 1, 1.0), 1)
    assert refuse(quota, 1, 2.0).limit == "requests_per_minute"
    reserve(quota, 1, 61.0)


def test_a_cancelled_reservation_was_no_request() -> None:
    quota = book(requests_per_minute=1, per_minute=10)
    assert quota.cancel(reserve(quota, 10, 0.0))
    second = reserve(quota, 10, 0.0)
    assert quota.statistics(0.0).tenants["acme"].requests_total == 1
    quota.settle(second, 10)
    assert not quota.cancel(second)


def test_settling_happens_once() -> None:
    quota = book(per_minute=100)
    reservation = reserve(quota, 100, 0.0)
    assert quota.settle(reservation, 60)
    assert not quota.settle(reservation, 0)
    assert quota.statistics(0.0).tenants["acme"].spent_total == 60


def test_more_than_was_reserved_is_never_charged() -> None:
    quota = book(per_minute=100)
    quota.settle(reserve(quota, 50, 0.0), 70)
    assert quota.statistics(0.0).overruns == 1
    reserve(quota, 50, 0.0)


def test_an_answer_that_outlives_the_window_settles_all_the_same() -> None:
    quota = book(per_minute=100)
    long = reserve(quota, 100, 0.0)
    second = reserve(quota, 100, 70.0)
    assert quota.settle(long, 10)
    assert refuse(quota, 1, 80.0).used == 100
    quota.settle(second, 0)
    quota.check_integrity()


@pytest.mark.parametrize(
    ("limits", "fits_after_s"),
    [
        ({"per_minute": 100}, 61.0),
        ({"per_day": 100}, 86_400.0 + 300.0),
        ({"per_minute": 100, "per_day": 100}, 86_400.0 + 300.0),
        ({"per_minute": 100, "per_day": 101}, 61.0),
        ({"requests_per_minute": 1}, 61.0),
        ({"requests_per_minute": 1, "per_day": 100}, 86_400.0 + 300.0),
    ],
)
def test_a_refusal_says_when_it_fits_and_then_it_does(limits: dict[str, int], fits_after_s: float) -> None:
    quota = book(**limits)
    quota.settle(reserve(quota, 100, 0.0), 100)
    refusal = refuse(quota, 1, 0.0)
    assert refusal.resets_in_s == fits_after_s
    refuse(quota, 1, fits_after_s - 0.01)
    reserve(quota, 1, fits_after_s)


AT_ONCE = "There is room as soon as one of them ends."
LATER = "this request may need up to 10. There is room in 61.0 s."
NEVER = "This request may need up to 11 tokens, more than the limit of 10"


@pytest.mark.parametrize(
    ("limits", "tokens", "text"),
    [
        ({"per_minute": 10}, 11, f"{NEVER} tokens per minute of tenant acme. Lower max_tokens or shorten the prompt."),
        ({"per_day": 10}, 11, f"{NEVER} tokens per day of tenant acme. Lower max_tokens or shorten the prompt."),
        (
            {"per_minute": 10},
            10,
            f"The limit of 10 tokens per minute of tenant acme is reached: 1 in use, and {LATER}",
        ),
        (
            {"requests_per_minute": 1},
            1,
            "The limit of 1 requests per minute of tenant acme is reached: 1 in use. There is room in 61.0 s.",
        ),
        (
            {"concurrent": 1},
            1,
            f"The limit of 1 requests at once of tenant acme is reached: 1 in use. {AT_ONCE}",
        ),
    ],
)
def test_the_text_of_a_refusal(limits: dict[str, int], tokens: int, text: str) -> None:
    quota = book(**limits)
    reserve(quota, 1, 0.0)
    assert str(refuse(quota, tokens, 0.0)) == text


def test_what_never_fits_is_reported_before_what_fits_later() -> None:
    quota = book(per_minute=200, per_day=150)
    quota.settle(reserve(quota, 100, 0.0), 100)
    assert (refuse(quota, 151, 0.0).limit, refuse(quota, 151, 0.0).resets_in_s) == ("tokens_per_day", None)
    quota = book(per_minute=100, per_day=150)
    assert refuse(quota, 151, 0.0).limit == "tokens_per_minute"


def test_unlimited_tenants_and_unknown_ones() -> None:
    quota = book()
    assert isinstance(quota.reserve("other", 10**12, 0.0), Reservation)
    with pytest.raises(UnknownTenant, match="no tenant 'unknown'"):
        quota.reserve("unknown", 1, 0.0)


ACME = TenantSettings(tokens=TokenQuota(per_day=100), requests_per_minute=1)


@pytest.mark.parametrize(
    ("used", "ended", "back_at", "limit"),
    [
        # Requests in flight, the minute and the day keep the account independently.
        (0, False, 130.0, "concurrent"),
        (0, False, 2 * 86_400.0, "concurrent"),
        (0, True, 30.0, "requests_per_minute"),
        (100, True, 130.0, "tokens_per_day"),
        (0, True, 130.0, None),
        (100, True, 86_400.0 + 300.0 + 1.0, None),
    ],
)
def test_a_tenant_that_is_added_again_keeps_its_usage(
    used: int, back_at: float, limit: str | None, *, ended: bool
) -> None:
    quota = QuotaBook({"acme": ACME})
    begun = reserve(quota, 100, 0.0)
    if ended:
        quota.settle(begun, used)
    quota.apply_settings({"other": TenantSettings()}, back_at - 1)
    assert ("acme" in quota.statistics(back_at - 1).tenants) is (limit is not None)
    quota.apply_settings({"acme": msgspec.structs.replace(ACME, concurrent=1)}, back_at)
    if limit is None:
        reserve(quota, 100, back_at)
    else:
        assert refuse(quota, 1, back_at).limit == limit


def test_a_lowered_limit_tells_what_runs_already() -> None:
    quota = QuotaBook({"acme": TenantSettings(concurrent=3)})
    for _ in range(3):
        reserve(quota, 1, 0.0)
    quota.apply_settings({"acme": TenantSettings(concurrent=1)}, 0.0)
    assert refuse(quota, 1, 0.0) == QuotaRefusal("concurrent", "tenant acme", 1, 3, 1, None)


def test_restored_tokens_are_no_requests_unless_they_say_so() -> None:
    quota = book()
    quota.restore("acme", [Used("minute", 1.0, 5), Used("minute", 1.0, 2, 3), Used("day", 1.0, 9)], 10.0)
    use = quota.statistics(10.0).tenants["acme"]
    assert (use.minute_tokens, use.minute_requests, use.day_tokens) == (7, 3, 9)
    quota.restore("gone", [Used("minute", 1.0, 5)], 10.0)
    assert set(quota.statistics(10.0).tenants) == {"acme", "other"}


def test_integrity_is_really_checked() -> None:
    quota = book()
    reserve(quota, 5, 0.0)
    quota._open.clear()
    with pytest.raises(IntegrityError):
        quota.check_integrity()


class QuotaMachine(RuleBasedStateMachine):
    @initialize(
        per_minute=st.integers(1, 60) | st.none(), per_day=st.integers(1, 200) | st.none(), at_once=st.integers(1, 5)
    )
    def make(self, per_minute: int | None, per_day: int | None, at_once: int) -> None:
        self.limits = TenantSettings(
            tokens=TokenQuota(per_minute=per_minute, per_day=per_day), requests_per_minute=9, concurrent=at_once
        )
        self.quota = QuotaBook({"acme": self.limits})
        self.now = 0.0
        self.open: list[Reservation] = []
        self.closed: list[Reservation] = []
        self.charges: dict[int, tuple[float, int]] = {}
        """By reservation: (time, tokens that count)."""
        self.reserved_total = self.spent_total = self.refused_total = self.overruns = 0

    def within(self, seconds: float) -> int:
        return sum(tokens for at, tokens in self.charges.values() if at > self.now - seconds)

    def requests_within(self, seconds: float) -> int:
        return sum(at > self.now - seconds for at, _ in self.charges.values())

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 7.0, 61.0, 50_000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(tokens=st.integers(0, 70))
    def ask(self, tokens: int) -> None:
        before = self.quota.statistics(self.now)
        given = self.quota.reserve("acme", tokens, self.now)
        if isinstance(given, Reservation):
            self.open.append(given)
            self.charges[given.number] = (self.now, tokens)
            self.reserved_total += tokens
            return
        self.refused_total += 1
        after = self.quota.statistics(self.now)
        assert after.tenants["acme"].refused_total == before.tenants["acme"].refused_total + 1
        assert after.tenants["acme"].day_tokens == before.tenants["acme"].day_tokens
        assert after.tenants["acme"].minute_requests == before.tenants["acme"].minute_requests
        assert given.used + given.requested > given.limit_value
        if given.resets_in_s is not None:
            assert given.resets_in_s > 0

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.floats(0, 1.2))
    def settle(self, data: st.DataObject, share: float) -> None:
        reservation = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        used = int(reservation.tokens * share)
        assert self.quota.settle(reservation, used)
        at, _ = self.charges[reservation.number]
        self.charges[reservation.number] = (at, min(used, reservation.tokens))
        self.spent_total += min(used, reservation.tokens)
        self.overruns += used > reservation.tokens
        self.closed.append(reservation)

    @precondition(lambda self: self.open)
    @rule()
    def cancel(self) -> None:
        reservation = self.open.pop()
        assert self.quota.cancel(reservation)
        del self.charges[reservation.number]
        self.reserved_total -= reservation.tokens
        self.closed.append(reservation)

    @precondition(lambda self: self.closed)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        before = self.quota.statistics(self.now)
        assert not self.quota.settle(data.draw(st.sampled_from(self.closed)), 10**6)
        assert self.quota.statistics(self.now) == before

    @invariant()
    def never_over_a_limit(self) -> None:
        self.quota.check_integrity()
        if self.limits.tokens.per_minute is not None:
            assert self.within(60) <= self.limits.tokens.per_minute
        if self.limits.tokens.per_day is not None:
            assert self.within(86_400) <= self.limits.tokens.per_day
        use = self.quota.statistics(self.now).tenants["acme"]
        assert use.in_flight == len(self.open) <= (self.limits.concurrent or 0)
        assert use.reserved_tokens == sum(reservation.tokens for reservation in self.open)
        assert (use.reserved_total, use.spent_total) == (self.reserved_total, self.spent_total)
        assert (use.requests_total, use.refused_total) == (len(self.charges), self.refused_total)
        # Slices of a second and of five minutes: amounts may count that much longer.
        assert self.within(60) <= use.minute_tokens <= self.within(61)
        assert self.within(86_400) <= use.day_tokens <= self.within(86_700)
        assert self.requests_within(60) <= use.minute_requests <= self.requests_within(61)
        found = self.quota.statistics(self.now)
        assert (found.open, found.overruns) == (len(self.open), self.overruns)

    def teardown(self) -> None:
        for reservation in self.open:
            assert self.quota.settle(reservation, 0)
        use = self.quota.statistics(self.now + 200_000).tenants["acme"]
        assert (use.in_flight, use.reserved_tokens, use.minute_tokens, use.day_tokens) == (0, 0, 0, 0)
        assert use.spent_total <= use.reserved_total


TestQuotaMachine = QuotaMachine.TestCase
TestQuotaMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_remaining_limits_and_when_they_reset() -> None:
    quota = book(per_minute=1000, per_day=1500, requests_per_minute=5)
    assert quota.limits("other", 0.0) is None
    assert quota.limits("unknown", 0.0) is None
    left = quota.limits("acme", 0.0)
    assert left == RateLimits(WindowLimit(5, 5, 0.0), WindowLimit(1000, 1000, 0.0))
    first = reserve(quota, 800, 10.2)
    left = quota.limits("acme", 12.0)
    # The minute has less remaining than the day; its last slice began at 10 s and counts for a minute after its end.
    assert left == RateLimits(WindowLimit(5, 4, 59.0), WindowLimit(1000, 200, 59.0))
    quota.settle(first, 700)
    reserve(quota, 300, 13.0)
    assert quota.limits("acme", 13.0) == RateLimits(WindowLimit(5, 3, 61.0), WindowLimit(1000, 0, 61.0))
    later = quota.limits("acme", 74.0)
    # The minute is free again: now the day has less remaining.
    assert later is not None
    assert later.tokens == WindowLimit(1500, 500, 300.0 + 86_400.0 - 74.0)
    assert later.requests == WindowLimit(5, 5, 0.0)
    assert book(requests_per_minute=5).limits("acme", 0.0) == RateLimits(WindowLimit(5, 5, 0.0), None)
    smaller = book(per_minute=100)
    reserve(smaller, 100, 0.0)
    smaller.apply_settings({"acme": TenantSettings(tokens=TokenQuota(per_minute=50))}, 1.0)
    assert smaller.limits("acme", 1.0) == RateLimits(None, WindowLimit(50, 0, 60.0))
