"""OTP's rules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.lifecycle.supervision import Backoff, ChildSpec, Forget, GiveUpAll, RestartChildren, Supervision

CHILDREN = (
    ChildSpec("ledger"),
    ChildSpec("queue", "transient"),
    ChildSpec("engine"),
    ChildSpec("console", "temporary"),
)


def test_one_for_one_restarts_the_child_alone() -> None:
    supervision = Supervision(CHILDREN)
    assert supervision.exited("queue", True, 0.0, 0.0) == RestartChildren((), ("queue",), 0.1)


def test_rest_for_one_restarts_the_younger_ones_too() -> None:
    supervision = Supervision(CHILDREN, strategy="rest_for_one")
    decision = supervision.exited("queue", True, 0.0, 0.0)
    assert decision == RestartChildren(("console", "engine"), ("queue", "engine"), 0.1)
    assert supervision.statistics().running == ("ledger", "queue", "engine")


def test_restart_types() -> None:
    supervision = Supervision(CHILDREN)
    assert supervision.exited("queue", False, 0.0, 0.0) == Forget()
    assert supervision.exited("console", True, 0.0, 0.0) == Forget()
    assert isinstance(supervision.exited("ledger", False, 0.0, 0.0), RestartChildren)


def test_too_many_restarts_escalate() -> None:
    supervision = Supervision(CHILDREN, intensity=2, period_s=10)
    for now in (0.0, 1.0):
        assert isinstance(supervision.exited("engine", True, now, 0.0), RestartChildren)
    decision = supervision.exited("engine", True, 9.9, 0.0)
    assert decision == GiveUpAll(("console", "queue", "ledger"), "engine ended after 2 restarts within 10 s")
    assert supervision.exited("ledger", True, 9.9, 0.0) == Forget()


def test_restarts_outside_the_period_are_forgiven() -> None:
    supervision = Supervision(CHILDREN, intensity=1, period_s=10)
    for now in range(0, 1000, 10):
        assert supervision.exited("engine", True, float(now), 0.0) == RestartChildren((), ("engine",), 0.1)


def test_backoff_grows_to_its_bound_and_jitter_shortens_it() -> None:
    backoff = Backoff(first_s=0.1, factor=2, longest_s=1.0, jitter=0.5)
    assert [backoff.delay_s(k, 0.0) for k in (1, 2, 3, 4, 5, 10**6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert backoff.delay_s(1, 1.0) == pytest.approx(0.05)


def test_shutdown_stops_in_reverse_and_restarts_nobody() -> None:
    supervision = Supervision(CHILDREN)
    assert supervision.shutdown() == ("console", "engine", "queue", "ledger")
    assert supervision.exited("engine", True, 0.0, 0.0) == Forget()


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="different names"):
        Supervision((ChildSpec("a"), ChildSpec("a")))


def test_restarts_do_not_escalate_while_a_spare_runs() -> None:
    spares = tuple(ChildSpec(name, spare="small") for name in ("small/0", "small/1"))
    supervision = Supervision((*spares, ChildSpec("alone", spare="large")), intensity=2, period_s=10)
    pauses = []
    for now in range(20):
        decision = supervision.exited("small/0", True, float(now), 0.0)
        assert isinstance(decision, RestartChildren)
        pauses.append(decision.after_s)
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    # Now nobody has run for a whole period.
    assert isinstance(supervision.exited("small/1", True, 20.0, 0.0), RestartChildren)
    assert isinstance(supervision.exited("small/0", True, 20.5, 0.0), RestartChildren)
    assert isinstance(supervision.exited("small/1", True, 21.0, 0.0), GiveUpAll)


def test_one_that_is_its_own_group_has_no_spare() -> None:
    supervision = Supervision((ChildSpec("alone", spare="large"), ChildSpec("other")), intensity=1, period_s=10)
    assert isinstance(supervision.exited("alone", True, 0.0, 0.0), RestartChildren)
    assert isinstance(supervision.exited("alone", True, 1.0, 0.0), GiveUpAll)


@settings(max_examples=80, deadline=None)
@given(
    strategy=st.sampled_from(["one_for_one", "rest_for_one"]),
    ends=st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from([0.0, 1.0, 20.0])), max_size=40),
)
def test_restarts_never_exceed_the_intensity(strategy: str, ends: list[tuple[int, bool, float]]) -> None:
    supervision = Supervision(CHILDREN, strategy=strategy, intensity=3, period_s=10)  # type: ignore[arg-type]
    order = [child.name for child in CHILDREN]
    running = set(order)
    restarts: list[float] = []
    now = 0.0
    for index, failed, passed in ends:
        now += passed
        if order[index] not in running:
            continue
        running.discard(order[index])
        decision = supervision.exited(order[index], failed, now, 0.5)
        match decision:
            case RestartChildren(stop, start, after_s):
                restarts.append(now)
                assert after_s > 0
                assert list(stop) == sorted(stop, key=order.index, reverse=True)
                assert list(start) == sorted(start, key=order.index)
                assert set(stop) <= running
                running = (running - set(stop)) | set(start)
            case GiveUpAll(stop, _):
                assert set(stop) == running
                assert sum(at > now - 10 for at in restarts) == 3
                running = set()
        assert set(supervision.statistics().running) == running
        assert sum(at > now - 10 for at in restarts) <= 3
