"""OTP's rules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.lifecycle.supervision import Backoff, ChildSpec, EscalateFailure, Forget, RestartChild, Supervision

CHILDREN = (
    ChildSpec("ledger"),
    ChildSpec("queue"),
    ChildSpec("engine"),
    ChildSpec("console", "temporary"),
)


def test_one_for_one_restarts_the_child_alone() -> None:
    supervision = Supervision(CHILDREN)
    assert supervision.exited("queue", 0.0, 0.0) == RestartChild(0.1)
    assert supervision.statistics().running == ("ledger", "queue", "engine", "console")


def test_restart_types() -> None:
    supervision = Supervision(CHILDREN)
    assert supervision.exited("console", 0.0, 0.0) == Forget()
    assert isinstance(supervision.exited("ledger", 0.0, 0.0), RestartChild)
    assert supervision.statistics().running == ("ledger", "queue", "engine")


def test_past_its_intensity_the_group_gives_up() -> None:
    supervision = Supervision(CHILDREN, intensity=2, period_s=10)
    for now in (0.0, 1.0):
        assert isinstance(supervision.exited("engine", now, 0.0), RestartChild)
    decision = supervision.exited("engine", 9.9, 0.0)
    assert decision == EscalateFailure(("console", "queue", "ledger"), "engine ended after 2 restarts within 10 s")
    assert supervision.exited("ledger", 9.9, 0.0) == Forget()


def test_restarts_outside_the_period_are_forgiven() -> None:
    supervision = Supervision(CHILDREN, intensity=1, period_s=10)
    for now in range(0, 1000, 10):
        assert supervision.exited("engine", float(now), 0.0) == RestartChild(0.1)


def test_backoff_grows_to_its_bound_and_jitter_shortens_it() -> None:
    backoff = Backoff(first_s=0.1, factor=2, longest_s=1.0, jitter=0.5)
    assert [backoff.delay_s(k, 0.0) for k in (1, 2, 3, 4, 5, 10**6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert backoff.delay_s(1, 1.0) == pytest.approx(0.05)


def test_shutdown_stops_in_reverse_and_restarts_nobody() -> None:
    supervision = Supervision(CHILDREN)
    assert supervision.shutdown() == ("console", "engine", "queue", "ledger")
    assert supervision.exited("engine", 0.0, 0.0) == Forget()


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="different names"):
        Supervision((ChildSpec("a"), ChildSpec("a")))


def test_a_group_without_an_intensity_never_gives_up_and_pauses_ever_longer() -> None:
    backoff = Backoff(first_s=30, factor=2, longest_s=600)
    supervision = Supervision(CHILDREN, intensity=None, period_s=3600, backoff=backoff)
    pauses = []
    for now in range(0, 3000, 300):
        decision = supervision.exited("engine", float(now), 0.0)
        assert isinstance(decision, RestartChild)
        pauses.append(decision.after_s)
    assert pauses == [30, 60, 120, 240, 480, 600, 600, 600, 600, 600]
    # Another child's pauses are its own, and a quiet hour is enough to begin anew.
    assert supervision.exited("ledger", 3000.0, 0.0) == RestartChild(30)
    assert supervision.exited("engine", 9000.0, 0.0) == RestartChild(30)


def test_without_any_restart_the_first_end_is_told_as_it_is() -> None:
    supervision = Supervision(CHILDREN, intensity=0)
    assert supervision.exited("engine", 0.0, 0.0) == EscalateFailure(("console", "queue", "ledger"), "engine ended")


def test_restarts_do_not_count_while_another_child_stands_in() -> None:
    replicas = tuple(ChildSpec(name) for name in ("small/0", "small/1"))
    supervision = Supervision(replicas, intensity=2, period_s=10, stand_in=True)
    pauses = []
    for now in range(20):
        decision = supervision.exited("small/0", float(now), 0.0)
        assert isinstance(decision, RestartChild)
        pauses.append(decision.after_s)
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    # Now neither has run for a whole period.
    assert isinstance(supervision.exited("small/1", 20.0, 0.0), RestartChild)
    assert isinstance(supervision.exited("small/0", 20.5, 0.0), RestartChild)
    assert isinstance(supervision.exited("small/1", 21.0, 0.0), EscalateFailure)


def test_one_child_alone_has_nobody_to_stand_in() -> None:
    supervision = Supervision((ChildSpec("alone"),), intensity=1, period_s=10, stand_in=True)
    assert isinstance(supervision.exited("alone", 0.0, 0.0), RestartChild)
    assert isinstance(supervision.exited("alone", 1.0, 0.0), EscalateFailure)


@settings(max_examples=80, deadline=None)
@given(ends=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1.0, 20.0])), max_size=40))
def test_restarts_never_exceed_the_intensity(ends: list[tuple[int, float]]) -> None:
    supervision = Supervision(CHILDREN, intensity=3, period_s=10)
    order = [child.name for child in CHILDREN]
    running = set(order)
    restarts: list[float] = []
    now = 0.0
    for index, passed in ends:
        now += passed
        name = order[index]
        if name not in running:
            continue
        match supervision.exited(name, now, 0.5):
            case RestartChild(after_s):
                restarts.append(now)
                assert after_s > 0
            case Forget():
                assert name == "console"
                running.discard(name)
            case EscalateFailure(stop, _):
                running.discard(name)
                assert list(stop) == sorted(running, key=order.index, reverse=True)
                assert sum(at > now - 10 for at in restarts) == 3
                running = set()
        assert set(supervision.statistics().running) == running
        assert supervision.statistics().restarts_in_period <= 3
        assert sum(at > now - 10 for at in restarts) <= 3
