"""Who is a suspect, who is refused, until when; and that it stays bounded."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from config.model.failures import QuarantineSettings
from config.model.table import Seconds
from policies.errors import IntegrityError
from policies.queueing.quarantine import Quarantine, QuarantineStatistics

KEEP = QuarantineSettings(keep=Seconds(60), entries=3)
A, B = b"a", b"b"


@pytest.mark.parametrize(
    ("events", "suspects", "held"),
    [
        pytest.param([], "", "", id="nothing"),
        pytest.param([(0, "ab")], "ab", "", id="all of one crash are suspects"),
        pytest.param([(0, "ab"), (1, "a")], "b", "a", id="the second crash"),
        pytest.param([(0, "aa")], "a", "", id="a content counts once a crash"),
        pytest.param([(0, "ab"), (1, "a!")], "b", "", id="one that ends is cleared"),
        pytest.param([(0, "a"), (1, "a!"), (2, "a")], "a", "", id="and begins anew"),
        pytest.param([(0, "a"), (1, "a"), (2, "a!")], "", "a", id="an end clears no quarantine"),
        pytest.param([(0, "a"), (30, "a")], "", "a", id="kept from the last crash on"),
        pytest.param([(0, "a"), (70, "a")], "a", "", id="a suspicion expires"),
        pytest.param([(0, "a"), (1, "a"), (62, "")], "", "", id="a quarantine expires"),
        pytest.param([(0, "abcd")], "bcd", "", id="the oldest suspect is forgotten"),
        pytest.param([(0, "a"), (0, "bcd"), (0, "a")], "acd", "", id="a flood forgets the first crash"),
        pytest.param([(0, "a"), (0, "a"), (0, "bcdefg")], "efg", "a", id="a flood of suspects frees no culprit"),
    ],
)
def test_what_is_held(events: list[tuple[float, str]], suspects: str, held: str) -> None:
    quarantine = Quarantine(KEEP)
    now = 0.0
    for at, contents in events:
        now = at
        if contents.endswith("!"):
            quarantine.ended(contents[:1].encode())
        else:
            quarantine.crashed([each.encode() for each in contents], now)
        quarantine.check_integrity()
    letters = "abcdefg"
    assert "".join(each for each in letters if quarantine.is_suspect(each.encode(), now)) == suspects
    assert "".join(each for each in letters if quarantine.holds(each.encode(), now)) == held
    assert quarantine.statistics(now).suspects == len(suspects)
    assert quarantine.statistics(now).quarantined == len(held)


def test_the_caught_are_returned_once_and_counted() -> None:
    quarantine = Quarantine(KEEP)
    assert not quarantine
    assert quarantine.crashed([A, B], 0.0) == []
    assert quarantine
    assert quarantine.crashed([A, A], 1.0) == [A]
    assert quarantine.crashed([A], 2.0) == []
    assert quarantine.statistics(2.0) == QuarantineStatistics(1, 1, 1)


def test_settings_change_while_it_holds() -> None:
    quarantine = Quarantine(KEEP)
    quarantine.crashed([A, B], 0.0)
    quarantine.apply_settings(QuarantineSettings(crashes=3, keep=Seconds(1), entries=1, alone=Seconds(7)))
    assert (quarantine.is_suspect(A, 0.5), quarantine.is_suspect(B, 59.0), quarantine.alone_s) == (False, True, 7.0)
    assert quarantine.crashed([B], 2.0) == []
    assert quarantine.crashed([B], 2.5) == [B]
    assert not quarantine.holds(B, 3.5)
    assert "3 crashes" in quarantine.message
    quarantine.crashed([A], 3.0)
    quarantine._suspects[b"x"] = quarantine._suspects[A]
    with pytest.raises(IntegrityError):
        quarantine.check_integrity()


class QuarantineMachine(RuleBasedStateMachine):
    """Against a model that keeps the crashes of each content, with room for all of them."""

    CONTENTS = "abcde"

    @initialize(crashes=st.integers(2, 4))
    def make(self, crashes: int) -> None:
        self.limit = crashes
        self.quarantine = Quarantine(QuarantineSettings(crashes=crashes, keep=Seconds(10), entries=5))
        self.now = 0.0
        self.crashes: dict[str, tuple[int, float]] = {}

    @rule(seconds=st.sampled_from([0.0, 1.0, 6.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(contents=st.lists(st.sampled_from(CONTENTS)))
    def crash(self, contents: list[str]) -> None:
        caught = self.quarantine.crashed([each.encode() for each in contents], self.now)
        expected = []
        for each in dict.fromkeys(contents):
            count, until = self.crashes.get(each, (0, 0.0))
            count = count if self.now < until else 0
            if count >= self.limit:
                continue
            self.crashes[each] = count + 1, self.now + 10
            if count + 1 == self.limit:
                expected.append(each.encode())
        assert caught == expected

    @rule(content=st.sampled_from(CONTENTS))
    def end(self, content: str) -> None:
        self.quarantine.ended(content.encode())
        if self.crashes.get(content, (0, 0.0))[0] < self.limit:
            self.crashes.pop(content, None)

    @invariant()
    def agrees(self) -> None:
        self.quarantine.check_integrity()
        for each in self.CONTENTS:
            count, until = self.crashes.get(each, (0, 0.0))
            live = self.now < until
            assert self.quarantine.holds(each.encode(), self.now) == (live and count >= self.limit)
            assert self.quarantine.is_suspect(each.encode(), self.now) == (live and 0 < count < self.limit)


TestQuarantineMachine = QuarantineMachine.TestCase
TestQuarantineMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
