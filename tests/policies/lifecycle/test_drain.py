"""The service ends in order, and never gets stuck."""

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.lifecycle.drain import Drain


def test_running_answers_may_finish() -> None:
    drain = Drain()
    assert drain.begin(25.0, 2, 0.0) == ("refuse_new",)
    assert drain.update(1, 5.0) == ()
    assert drain.update(0, 6.0) == ("close_ledger",)
    assert drain.ledger_closed() == ("exit",)
    assert drain.state == "dead"
    assert drain.statistics().cut == 0


def test_at_the_deadline_they_are_ended() -> None:
    drain = Drain()
    drain.begin(25.0, 2, 0.0)
    assert drain.update(2, 25.0) == ("end_running", "close_ledger")
    assert drain.update(0, 25.1) == ()
    assert drain.statistics().cut == 2


def test_an_idle_service_stops_at_once_and_a_second_signal_hurries() -> None:
    assert Drain().begin(25.0, 0, 0.0) == ("refuse_new", "close_ledger")
    drain = Drain()
    drain.begin(25.0, 1, 0.0)
    assert drain.begin(2.0, 1, 2.0) == ("end_running", "close_ledger")
    late = Drain()
    late.begin(25.0, 1, 0.0)
    late.begin(99.0, 1, 1.0)
    assert late.deadline == 25.0


ORDER = ["serving", "draining", "stopping", "dead"]


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["begin", "update", "closed", "wait"]), st.integers(0, 3)), max_size=30)
)
def test_never_backwards_each_action_once_and_always_to_the_end(steps: list[tuple[str, int]]) -> None:
    drain = Drain()
    now = 0.0
    actions: list[str] = []
    for step, number in steps:
        before = ORDER.index(drain.state)
        match step:
            case "begin":
                actions += drain.begin(now + 5, number, now)
            case "update":
                actions += drain.update(number, now)
            case "closed":
                actions += drain.ledger_closed()
            case "wait":
                now += number
        assert ORDER.index(drain.state) >= before
    actions += drain.begin(now, 1, now)
    actions += drain.update(1, now + 1)
    actions += drain.ledger_closed()
    assert drain.state == "dead"
    assert len(actions) == len(set(actions))
    assert actions[0] == "refuse_new"
    assert actions[-2:] == ["close_ledger", "exit"]
