"""Least outstanding calls, health per address; no call is lost or counted twice."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.upstream.replicas import FIRST_BACKOFF_S, MAX_BACKOFF_S, AllPaused, Replicas

COUNT = 3


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.replicas = Replicas(COUNT)
        self.out: list[int] = []
        self.asked = [0.0] * COUNT

    @rule(tried=st.sets(st.integers(0, COUNT - 1)))
    def choose(self, tried):
        figures = self.replicas.statistics(self.now)
        number = self.replicas.choose(self.now, tuple(tried))
        left = set(range(COUNT)) - tried
        if not left:
            assert number is None
        elif isinstance(number, AllPaused):
            assert all(self.asked[each] > self.now for each in left)
            assert number.retry_after_s == min(self.asked[each] for each in left) - self.now
        else:
            assert number in left
            assert self.asked[number] <= self.now
            healthy = [each for each in left if not figures[each].rests_for_s]
            if healthy:
                assert number in healthy
                assert figures[number].outstanding == min(figures[each].outstanding for each in healthy)
            self.out.append(number)

    @rule(
        pick=st.randoms(use_true_random=False),
        ok=st.sampled_from([True, False, None]),
        wait=st.none() | st.floats(0, 9),
    )
    def end(self, pick, ok, wait):
        if self.out:
            number = self.out.pop(pick.randrange(len(self.out)))
            self.replicas.end(number, ok, self.now, retry_after_s=wait)
            if wait is not None:
                self.asked[number] = max(self.asked[number], self.now + wait)

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def adds_up(self):
        self.replicas.check_integrity()
        figures = self.replicas.statistics(self.now)
        assert [each.outstanding for each in figures] == [self.out.count(number) for number in range(COUNT)]
        assert all(each.rests_for_s <= (MAX_BACKOFF_S if not each.ejected_total else 300.0) for each in figures)


TestReplicas = Machine.TestCase
TestReplicas.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_one_that_fails_is_left_alone_longer_each_time():
    replicas = Replicas(2)
    now = 0.0
    rests = []
    for _ in range(4):
        now += 60
        assert replicas.choose(now, (1,)) == 0
        replicas.end(0, ok=False, now=now)
        rests.append(replicas.statistics(now)[0].rests_for_s)
        assert replicas.choose(now) == 1
        replicas.end(1, ok=True, now=now)
    assert rests == [FIRST_BACKOFF_S * 2**power for power in range(4)]
    assert replicas.choose(now, (1,)) == 0
    replicas.end(0, ok=True, now=now)
    assert replicas.statistics(now)[0].rests_for_s == 0


def test_calls_that_fail_together_are_one_failure():
    replicas = Replicas(1)
    for _ in range(5):
        assert replicas.choose(0.0) == 0
    for _ in range(5):
        replicas.end(0, ok=False, now=0.0)
    assert replicas.statistics(0.0)[0].rests_for_s == FIRST_BACKOFF_S


def test_the_address_that_knows_the_conversation_is_preferred_within_bounds():
    replicas = Replicas(3)
    assert [replicas.choose(0.0, knows=2) for _ in range(3)] == [2, 2, 2]
    assert replicas.choose(0.0, knows=2) == 0, "it has three more calls than the others"
    assert replicas.choose(0.0, (2,), knows=2) == 1
    for _ in range(3):
        replicas.end(2, None, 0.0)
    assert replicas.choose(0.0, knows=2) == 2
    replicas.end(2, False, 0.0)
    assert replicas.choose(0.0, knows=2) in {0, 1}, "it has failed"
    assert replicas.choose(FIRST_BACKOFF_S, knows=2) == 2
    replicas.end(2, None, FIRST_BACKOFF_S, retry_after_s=9.0)
    assert replicas.choose(FIRST_BACKOFF_S, knows=2) in {0, 1}, "it has asked for a pause"
