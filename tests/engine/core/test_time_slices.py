"""Time slices: no member starves, used time differs by at most one step, and the limit on concurrent steps holds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.core.time_slices import TimeSliceScheduler
from engine.errors import EngineError

NAMES = "abcd"


class Members(RuleBasedStateMachine):
    """Members that compute, wait, leave and hang; the test counts by itself who may compute."""

    @initialize(at_once=st.integers(1, 3))
    def begin(self, at_once: int) -> None:
        self.book: TimeSliceScheduler[str] = TimeSliceScheduler(at_once)
        self.at_once = at_once
        self.computing: set[str] = set()
        self.waiting: set[str] = set()

    def given(self, name: str | None) -> None:
        if name is not None:
            assert name in self.waiting
            self.waiting.remove(name)
            self.computing.add(name)

    @rule(name=st.sampled_from(NAMES))
    def ask(self, name: str) -> None:
        has = self.book.ask(name)
        if name in self.computing | self.waiting:
            assert has == (name in self.computing)
        else:
            assert has == (len(self.computing) < self.at_once)
            (self.computing if has else self.waiting).add(name)

    @precondition(lambda self: self.computing)
    @rule(data=st.data(), took=st.floats(0, 2), more=st.booleans())
    def step(self, data: st.DataObject, took: float, more: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.computing)))
        grants = self.book.grants
        following = self.book.done(name, took, more=more)
        if more and self.book.grants == grants:
            assert following is None
        else:
            self.computing.remove(name)
            if more:
                self.waiting.add(name)
            self.given(following)

    @precondition(lambda self: self.waiting)
    @rule()
    def overrule(self) -> None:
        following = self.book.overrule()
        assert following is not None
        (hung,) = [name for name in self.computing if not self.book.ask(name) and name in self.computing] or [None]
        if hung is not None:
            # The new request made it wait.
            self.computing.remove(hung)
            self.waiting.add(hung)
        self.given(following)

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: str) -> None:
        following = self.book.leave(name)
        self.computing.discard(name)
        self.waiting.discard(name)
        self.given(following)

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "book"):
            self.book.check_integrity()
            assert len(self.computing) <= self.at_once
            assert not self.waiting or len(self.computing) == self.at_once


TestMembers = Members.TestCase
TestMembers.settings = settings(max_examples=100, stateful_step_count=40)


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=5))
def test_all_that_always_want_it_have_the_same_time_but_for_a_step(steps):
    book: TimeSliceScheduler[int] = TimeSliceScheduler(1)
    used = [0.0] * len(steps)
    holder = [book.ask(member) for member in range(len(steps))].index(True)
    for _ in range(300):
        used[holder] += steps[holder]
        following = book.done(holder, steps[holder], more=True)
        holder = holder if following is None else following
    assert max(used) - min(used) <= 2 * max(steps)


def test_who_was_away_earns_nothing_by_it():
    book: TimeSliceScheduler[str] = TimeSliceScheduler(1)
    assert book.ask("busy")
    assert book.done("busy", 100.0, more=True) is None
    assert not book.ask("late")
    # On return its used time equals the other's: they alternate.
    assert book.done("busy", 1.0, more=True) == "late"
    assert book.done("late", 1.0, more=True) is None
    assert book.done("late", 0.5, more=True) == "busy"


def test_short_steps_go_on_until_they_have_had_as_much_as_a_long_one():
    book: TimeSliceScheduler[str] = TimeSliceScheduler(1)
    assert book.ask("long")
    assert not book.ask("short")
    assert book.done("long", 10.0, more=True) == "short"
    steps = 1
    while book.done("short", 1.0, more=True) is None:
        steps += 1
    assert steps == 11


def test_who_hangs_is_passed_over_and_its_end_changes_nothing():
    book: TimeSliceScheduler[str] = TimeSliceScheduler(1)
    assert book.ask("hung")
    assert not book.ask("next")
    assert book.overrule() == "next"
    assert book.done("hung", 99.0, more=True) is None
    assert not book.ask("hung")
    assert book.done("next", 1.0, more=False) == "hung"


def test_the_books_notice_a_turn_that_nobody_has():
    book: TimeSliceScheduler[str] = TimeSliceScheduler(1)
    book.ask("a")
    book.ask("b")
    book._holders.clear()
    with pytest.raises(EngineError, match="defect"):
        book.check_integrity()
