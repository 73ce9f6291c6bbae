"""Which replicas are too slow, and for how long they get nothing."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.queueing.replica_pace import ReplicaPace


class Case(NamedTuple):
    steps: list[tuple[int, float]]
    """By replica: tokens and seconds of each of its steps."""
    ejected: list[int]
    count: int = 12
    """Steps of each replica."""


CASES = {
    "alike": Case([(8, 0.01), (8, 0.01), (8, 0.012)], []),
    "ten times as slow": Case([(8, 0.01), (8, 0.1)], [1]),
    "the first one": Case([(8, 0.1), (8, 0.01), (8, 0.01)], [0]),
    "three times as slow": Case([(8, 0.01), (8, 0.035)], []),
    "by too little to matter": Case([(8, 0.001), (8, 0.02)], []),
    "long steps of many tokens": Case([(8, 0.01), (512, 0.5)], []),
    "about as many tokens": Case([(9, 0.01), (15, 0.1)], [1]),
    "too few steps": Case([(8, 0.01), (8, 0.1)], [], count=7),
    "nothing to compare with": Case([(8, 0.1), (0, 0.0)], []),
    "never more than half": Case([(8, 0.01), (8, 0.1), (8, 0.2)], [1]),
    "half of four": Case([(8, 0.01), (8, 0.01), (8, 0.1), (8, 0.2)], [2, 3]),
}


@pytest.mark.parametrize("name", CASES)
def test_who_is_ejected(name: str) -> None:
    case = CASES[name]
    pace = ReplicaPace(len(case.steps))
    for step in range(1, case.count + 1):
        for number, (tokens, seconds) in enumerate(case.steps):
            pace.step(number, step, tokens, seconds, 0.0)
    assert [number for number in range(len(case.steps)) if pace.is_ejected(number, 0.0)] == case.ejected
    assert [bool(count) for count in pace.ejected_total] == [
        number in case.ejected for number in range(len(case.steps))
    ]


def slow_steps(pace: ReplicaPace, first: int, now: float, count: int = 8) -> list[float | None]:
    found = []
    for step in range(first, first + count):
        pace.step(0, step, 8, 0.01, now)
        found.append(pace.step(1, step, 8, 0.1, now))
    return found


def test_it_comes_back_and_is_ejected_for_longer_each_time() -> None:
    pace, now, times = ReplicaPace(2), 0.0, []
    for life in range(9):
        found = slow_steps(pace, 1 + life * 100, now)
        assert found[:-1] == [None] * 7
        times.append(found[-1])
        assert pace.is_ejected(1, now + (found[-1] or 0) - 0.01)
        now += found[-1] or 0
        assert not pace.is_ejected(1, now)
    assert times == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    # After a long good time the next one is short again.
    assert slow_steps(pace, 2000, now + 601)[-1] == 5


def test_a_step_that_is_seen_again_counts_once() -> None:
    pace = ReplicaPace(2)
    for _ in range(50):
        pace.step(0, 1, 8, 0.01, 0.0)
        pace.step(1, 1, 8, 0.1, 0.0)
    assert not pace.is_ejected(1, 0.0)


def test_the_next_life_is_judged_by_itself() -> None:
    pace = ReplicaPace(2)
    slow_steps(pace, 1, 0.0, count=7)
    pace.forget(1)
    assert slow_steps(pace, 8, 0.0, count=7) == [None] * 7
    assert slow_steps(pace, 15, 0.0, count=1) == [5]


def test_one_alone_is_never_ejected() -> None:
    pace = ReplicaPace(1)
    assert {pace.step(0, step, 8, float(step), 0.0) for step in range(1, 50)} == {None}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40), st.floats(0, 9), st.floats(0, 3)), max_size=200))
def test_at_least_half_stay(steps: list[tuple[int, int, float, float]]) -> None:
    pace, now = ReplicaPace(4), 0.0
    for number, (replica, tokens, seconds, passed) in enumerate(steps, 1):
        now += passed
        pace.step(replica, number, tokens, seconds, now)
        assert sum(pace.is_ejected(each, now) for each in range(4)) <= 2
