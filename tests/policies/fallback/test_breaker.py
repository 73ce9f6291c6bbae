"""The breaker: by example, and by a machine that looks for a way around the probes."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from config.model.routing import BreakerSettings
from config.model.table import Seconds
from policies.fallback.breaker import Breaker, BreakerOpen
from policies.model.load import BreakerView, Permit

SETTINGS = BreakerSettings(failure_rate=0.5, over=Seconds(30), at_least=4, open=Seconds(5), probes=2)


def fail(breaker: Breaker, times: int, now: float) -> None:
    for _ in range(times):
        permit = breaker.permit(now)
        assert isinstance(permit, Permit)
        breaker.record(permit, False, now)


def test_opens_at_the_failure_rate_but_not_before_enough_was_seen() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 3, 0.0)
    assert breaker.state == "closed"
    fail(breaker, 1, 1.0)
    assert breaker.state == "open"
    assert breaker.permit(2.0) == BreakerOpen(4.0)


def test_failures_outside_the_window_are_forgotten() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 3, 0.0)
    fail(breaker, 1, 31.0)
    assert breaker.state == "closed"
    breaker.check_integrity()
    assert breaker.statistics().failed == 1


def test_successes_keep_it_closed() -> None:
    breaker = Breaker(SETTINGS)
    for now in range(20):
        permit = breaker.permit(now)
        assert isinstance(permit, Permit)
        breaker.record(permit, now % 4 != 3, now)
    assert breaker.state == "closed"


def test_outcomes_that_say_nothing_do_not_count() -> None:
    breaker = Breaker(SETTINGS)
    for _ in range(50):
        permit = breaker.permit(0.0)
        assert isinstance(permit, Permit)
        breaker.record(permit, None, 0.0)
    assert breaker.statistics().failed == 0


def test_probes_close_it_again() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 4, 0.0)
    first, second = breaker.permit(5.0), breaker.permit(5.0)
    assert isinstance(first, Permit)
    assert isinstance(second, Permit)
    assert first.probe != second.probe
    assert isinstance(breaker.permit(5.0), BreakerOpen)
    breaker.record(first, True, 5.1)
    breaker.record(first, True, 5.1)
    assert breaker.state == "half_open"
    breaker.record(second, True, 5.2)
    assert breaker.state == "closed"


def test_one_failed_probe_opens_it_again() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 4, 0.0)
    first, second = breaker.permit(5.0), breaker.permit(5.0)
    assert isinstance(first, Permit)
    assert isinstance(second, Permit)
    breaker.record(first, False, 6.0)
    assert breaker.state == "open"
    breaker.record(second, True, 6.0)
    assert breaker.state == "open"
    assert breaker.permit(6.0) == BreakerOpen(5.0)


def test_a_probe_that_says_nothing_gives_its_place_back() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 4, 0.0)
    permits = [breaker.permit(5.0), breaker.permit(5.0)]
    assert isinstance(permits[0], Permit)
    breaker.record(permits[0], None, 5.1)
    assert isinstance(breaker.permit(5.2), Permit)


def test_a_probe_whose_outcome_never_comes_does_not_shut_the_rung_for_ever() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 4, 0.0)
    lost = [breaker.permit(5.0), breaker.permit(5.0)]
    refused = breaker.permit(6.0)
    assert isinstance(refused, BreakerOpen)
    assert 0 < refused.retry_after_s <= 5
    assert isinstance(breaker.permit(36.0), Permit)
    assert isinstance(lost[0], Permit)
    breaker.record(lost[0], False, 36.0)
    assert breaker.state == "half_open"


@pytest.mark.parametrize(("open_s", "over_s", "lost_after_s"), [(5, 30, 30), (60, 30, 60)])
def test_a_probe_is_lost_after_the_longer_of_both_times(open_s: int, over_s: int, lost_after_s: int) -> None:
    breaker = Breaker(
        BreakerSettings(failure_rate=0.5, over=Seconds(over_s), at_least=1, open=Seconds(open_s), probes=1)
    )
    fail(breaker, 1, 0.0)
    begun = float(open_s)
    assert isinstance(breaker.permit(begun), Permit)
    for passed in (0.0, 1.0, lost_after_s - 1.0, lost_after_s - 0.0001):
        left = breaker.permit(begun + passed)
        assert isinstance(left, BreakerOpen)
        assert left.retry_after_s == pytest.approx(min(open_s, max(lost_after_s - passed, 0.001)))
    assert isinstance(breaker.permit(begun + lost_after_s), Permit)


def test_the_oldest_probe_says_when_to_come_back() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 4, 0.0)
    breaker.permit(5.0)
    breaker.permit(20.0)
    assert breaker.permit(32.0) == BreakerOpen(3.0)


def test_the_window_moves_by_tenths() -> None:
    """A failure counts from its slice's begin for `over` seconds, and no other with it."""
    expected = {29.9: 4, 30.0: 2, 32.9: 2, 33.0: 1, 36.4: 1, 36.5: 0}
    for now, succeeded in expected.items():
        # An outcome that counts moves the window: look at what is left beside it.
        looked = Breaker(SETTINGS)
        for at in (0.0, 2.9, 3.0, 6.5):
            looked.record(Permit(0), True, at)
        looked.record(Permit(0), False, now)
        assert (looked.statistics().succeeded, looked.statistics().failed) == (succeeded, 1), now


def test_what_it_counts() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 4, 0.0)
    breaker.permit(1.0)
    breaker.permit(2.0)
    counted = breaker.statistics()
    assert (counted.state, counted.epoch, counted.opened_total, counted.refused_total) == ("open", 1, 1, 2)
    assert (counted.succeeded, counted.failed, counted.probes_out) == (0, 0, 0)
    probe = breaker.permit(5.0)
    breaker.permit(5.0)
    breaker.permit(5.0)
    counted = breaker.statistics()
    assert (counted.state, counted.epoch, counted.refused_total, counted.probes_out) == ("half_open", 2, 3, 2)
    assert isinstance(probe, Permit)
    breaker.record(probe, False, 6.0)
    assert (breaker.statistics().opened_total, breaker.statistics().epoch) == (2, 3)
    assert breaker.view(6.0) == BreakerView("open", 3, 5.0)
    assert breaker.view(11.0) == BreakerView("half_open", 3, 0.0)
    assert breaker.view(10.5) == BreakerView("open", 3, 0.5)


def test_other_settings_keep_the_state_and_begin_probes_anew() -> None:
    breaker = Breaker(SETTINGS)
    breaker.record(Permit(0), False, 0.0)
    breaker.apply_settings(BreakerSettings(failure_rate=0.5, over=Seconds(30), at_least=2, open=Seconds(7), probes=1))
    assert breaker.statistics().failed == 1
    fail(breaker, 1, 1.0)
    assert breaker.permit(1.0) == BreakerOpen(7.0)
    probe = breaker.permit(8.0)
    assert isinstance(probe, Permit)
    same = BreakerSettings(failure_rate=0.5, over=Seconds(30), at_least=2, open=Seconds(7), probes=1)
    breaker.apply_settings(same)
    assert breaker.statistics().probes_out == 1
    breaker.apply_settings(SETTINGS)
    assert (breaker.state, breaker.statistics().probes_out) == ("half_open", 0)
    breaker.record(probe, False, 9.0)
    assert breaker.state == "half_open"


SLOW = BreakerSettings(
    failure_rate=0.5,
    slow_after=Seconds(2),
    slow_rate=0.5,
    over=Seconds(30),
    at_least=4,
    open=Seconds(5),
    probes=2,
)


def answers(breaker: Breaker, *ttft_s: float | None, now: float = 0.0) -> None:
    for each in ttft_s:
        permit = breaker.permit(now)
        assert isinstance(permit, Permit)
        breaker.record(permit, True, now, each)


def test_slow_answers_open_it_and_slow_probes_keep_it_open() -> None:
    breaker = Breaker(SLOW)
    answers(breaker, 0.1, 2.0, 1.9)
    assert (breaker.state, breaker.statistics().slow) == ("closed", 1)
    answers(breaker, 2.0)
    assert breaker.state == "open"
    answers(breaker, 2.0, now=5.0)
    assert breaker.permit(5.0) == BreakerOpen(5.0)
    answers(breaker, 0.1, 0.1, now=10.0)
    assert breaker.state == "closed"
    breaker.check_integrity()


def test_what_is_not_slow_opens_nothing() -> None:
    breaker = Breaker(SLOW)
    answers(breaker, 3.0, 3.0, 3.0)
    # Its outcome is no slow one, so it judges nothing; the next slow one does.
    answers(breaker, None)
    assert breaker.state == "closed"
    other = Breaker(SETTINGS)
    answers(other, *[100.0] * 20)
    assert (other.state, other.statistics().slow) == ("closed", 0)
    # A failure is counted once, however slow it was.
    failing = Breaker(SLOW)
    failing.record(Permit(0), False, 0.0, 9.0)
    assert (failing.statistics().slow, failing.statistics().failed) == (0, 1)


def test_slow_answers_leave_the_window() -> None:
    breaker = Breaker(SLOW)
    answers(breaker, 3.0, 3.0, 3.0)
    answers(breaker, 0.1, now=31.0)
    assert (breaker.statistics().slow, breaker.statistics().succeeded) == (0, 1)
    breaker.check_integrity()


def test_forced_open_it_lets_nothing_through_and_then_probes() -> None:
    breaker = Breaker(SETTINGS)
    early = breaker.permit(0.0)
    breaker.force("open", 60.0)
    assert breaker.permit(10.0) == BreakerOpen(50.0)
    assert breaker.view(10.0) == BreakerView("open", 1, 50.0)
    assert (breaker.forced(10.0), breaker.forced_for_s(10.0)) == ("open", 50.0)
    assert isinstance(early, Permit)
    breaker.record(early, True, 20.0)
    assert breaker.state == "open"
    assert breaker.forced(60.0) == "none"
    probe = breaker.permit(60.0)
    assert isinstance(probe, Permit)
    assert probe.probe


def test_forced_closed_no_outcome_opens_it() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 4, 0.0)
    breaker.force("closed", 60.0)
    fail(breaker, 50, 10.0)
    assert (breaker.state, breaker.statistics().failed, breaker.forced_for_s(10.0)) == ("closed", 0, 50.0)
    fail(breaker, 4, 60.0)
    assert breaker.state == "open"


def test_an_end_of_force_begins_anew_and_needs_one() -> None:
    breaker = Breaker(SETTINGS)
    fail(breaker, 4, 0.0)
    breaker.force("none", 0.0)
    # It is open by itself: there is no force to end.
    assert breaker.state == "open"
    breaker.force("open", 60.0)
    breaker.force("none", 0.0)
    assert isinstance(breaker.permit(1.0), Permit)
    assert (breaker.forced(1.0), breaker.forced_for_s(1.0), breaker.state) == ("none", 0.0, "closed")


def test_late_outcomes_of_an_earlier_epoch_are_ignored() -> None:
    breaker = Breaker(SETTINGS)
    early = breaker.permit(0.0)
    assert isinstance(early, Permit)
    fail(breaker, 4, 0.0)
    probe = breaker.permit(5.0)
    assert isinstance(probe, Permit)
    breaker.record(early, False, 5.0)
    assert breaker.state == "half_open"
    breaker.record(early, True, 5.0)
    assert breaker.statistics().probes_out == 1
    breaker.record(probe, True, 5.0)
    second = breaker.permit(5.0)
    assert isinstance(second, Permit)
    breaker.record(second, True, 5.0)
    assert breaker.state == "closed"
    for late in (early, probe):
        breaker.record(late, False, 5.0)
    assert breaker.statistics().failed == 0


def test_attempts_go_without_a_question_only_while_it_is_closed() -> None:
    breaker = Breaker(SETTINGS)
    permit = breaker.closed_permit()
    assert permit == breaker.permit(0.0)
    fail(breaker, 4, 0.0)
    view = breaker.view(1.0)
    assert (view.state, view.opens_for_s, breaker.closed_permit()) == ("open", 4.0, None)
    assert breaker.view(5.0).state == "half_open"


class BreakerMachine(RuleBasedStateMachine):
    @initialize(
        rate=st.sampled_from([0.1, 0.5, 1.0]),
        at_least=st.integers(1, 4),
        probes=st.integers(1, 3),
        open_s=st.integers(1, 9),
    )
    def make(self, rate: float, at_least: int, probes: int, open_s: int) -> None:
        self.settings = BreakerSettings(
            failure_rate=rate, over=Seconds(10), at_least=at_least, open=Seconds(open_s), probes=probes
        )
        self.breaker = Breaker(self.settings)
        self.now = 0.0
        self.out: list[Permit] = []
        self.last_state = "closed"
        self.opened_at = 0.0
        self.passed_probes: set[int] = set()

    def note(self) -> None:
        state = self.breaker.state
        if state != self.last_state:
            allowed = {"closed": {"open"}, "open": {"half_open"}, "half_open": {"open", "closed"}}
            assert state in allowed[self.last_state]
            if state == "half_open":
                assert self.now >= self.opened_at + self.settings.open
                self.passed_probes = set()
            if state == "closed":
                assert len(self.passed_probes) >= self.settings.probes
            if state == "open":
                self.opened_at = self.now
            self.last_state = state

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 4.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        closed = self.breaker.closed_permit()
        given = self.breaker.permit(self.now)
        self.note()
        if isinstance(given, Permit):
            self.out.append(given)
            assert (given.probe == 0) == (self.breaker.state == "closed")
            assert self.breaker.statistics().probes_out <= self.settings.probes
        else:
            assert self.breaker.state != "closed"
            assert closed is None
            assert given.retry_after_s > 0

    @precondition(lambda self: self.out)
    @rule(data=st.data(), ok=st.sampled_from([True, False, None]), twice=st.booleans())
    def outcome(self, data: st.DataObject, ok: bool | None, twice: bool) -> None:
        permit = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        for _ in range(2 if twice and permit.probe else 1):
            if ok and permit.probe:
                self.passed_probes.add(permit.probe)
            self.breaker.record(permit, ok, self.now)
            self.note()

    @precondition(lambda self: self.out)
    @rule()
    def lose_one(self) -> None:
        self.out.pop()

    @invariant()
    def adds_up(self) -> None:
        self.breaker.check_integrity()

    def teardown(self) -> None:
        # However it stands, time and successes close it again.
        for _ in range(20):
            self.now += 11
            given = self.breaker.permit(self.now)
            if isinstance(given, Permit):
                self.breaker.record(given, True, self.now)
        assert self.breaker.state == "closed"


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_integrity_is_really_checked() -> None:
    from policies.errors import IntegrityError

    breaker = Breaker(SETTINGS)
    fail(breaker, 1, 0.0)
    breaker._failed = 7
    with pytest.raises(IntegrityError):
        breaker.check_integrity()


@pytest.mark.parametrize(("over_s", "counted"), [(30.0, 1), (60.0, 2), (300.0, 5)])
def test_other_settings_count_within_their_own_window(over_s: float, counted: int) -> None:
    breaker = Breaker(SETTINGS)
    breaker.apply_settings(
        BreakerSettings(failure_rate=0.5, over=Seconds(over_s), at_least=6, open=Seconds(5), probes=2)
    )
    fail(breaker, 3, 0.0)
    fail(breaker, 1, 31.0)
    fail(breaker, 1, 61.0)
    assert breaker.statistics().failed == counted


def test_the_failure_rate_itself_opens_it() -> None:
    breaker = Breaker(SETTINGS)
    for ok in (True, True, False):
        permit = breaker.permit(0.0)
        assert isinstance(permit, Permit)
        breaker.record(permit, ok, 0.0)
    assert breaker.state == "closed"
    fail(breaker, 1, 0.0)
    assert breaker.state == "open"
