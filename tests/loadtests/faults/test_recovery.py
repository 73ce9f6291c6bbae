"""The rule of recovery, by tables."""

import pytest

from loadtests.faults.recovery import RULE, with_recovery
from loadtests.model.run_record import FaultRecord, Measures, RunWindow


def windows(shares: list[float | None]) -> list[RunWindow]:
    """None: no request in this second."""
    return [
        RunWindow(
            begins_s=float(at), measures=Measures(requests=0 if share is None else 100, good=round(100 * (share or 0)))
        )
        for at, share in enumerate(shares)
    ]


WELL = [1.0] * 10


@pytest.mark.parametrize(
    ("shares", "effect", "recovered"),
    [
        ([*WELL, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0], True, 2.0),
        ([*WELL, 1.0, 1.0, 1.0, 1.0], False, None),
        ([*WELL, 0.97, 0.96, 1.0, 1.0], False, None),
        ([*WELL, 0.0, 0.0, 0.0, 0.0], True, None),
        ([*WELL, 0.0, 1.0, 1.0], True, None),  # two seconds are not enough to say so
        ([*WELL, 0.0, 1.0, 0.5, 1.0, 1.0, 1.0], True, 3.0),
        ([*WELL, 0.0, None, None, 1.0, 1.0, 1.0], True, 1.0),
        ([*WELL, 1.0, 0.5, 1.0, 1.0, 1.0], True, 2.0),
        ([*WELL, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0], False, None),  # after its end: not by it
        ([*[0.5] * 10, 0.0, 0.5, 0.5, 0.5], True, 1.0),
    ],
)
def test_the_rule(shares: list[float | None], effect: bool, recovered: float | None) -> None:
    fault = FaultRecord("f", "stall", 10.0, 12.0)
    (found,) = with_recovery([fault], windows(shares), warm_up_s=2.0, window_s=1.0, end_s=100.0)
    assert (found.had_effect, found.recovered_after_s) == (effect, recovered)


def test_clients_that_leave_are_neither_good_nor_bad() -> None:
    seconds = windows([*WELL, 0.0, 1.0, 1.0, 1.0, 1.0])
    for each in seconds[:10] + seconds[11:]:
        each.measures = Measures(requests=100, good=5, left=95)
    fault = FaultRecord("f", "stall", 10.0, 12.0)
    (found,) = with_recovery([fault], seconds, warm_up_s=2.0, window_s=1.0, end_s=100.0)
    assert (found.share_before, found.had_effect, found.recovered_after_s) == (1.0, True, 1.0)


@pytest.mark.parametrize("shares", [[0.0] * 20, [None] * 10 + WELL, []])
def test_without_good_requests_before_nothing_is_said(shares: list[float | None]) -> None:
    fault = FaultRecord("f", "stall", 10.0, 12.0)
    assert with_recovery([fault], windows(shares), warm_up_s=0.0, window_s=1.0, end_s=100.0) == (fault,)


def test_seconds_after_the_last_request_are_no_recovery() -> None:
    fault = FaultRecord("f", "stall", 10.0, 12.0)
    shares = [*WELL, 0.0, 0.0, 1.0, 1.0, 1.0]
    (found,) = with_recovery([fault], windows(shares), warm_up_s=0.0, window_s=1.0, end_s=12.0)
    assert found.recovered_after_s is None
    assert (found.share_before, found.share_worst) == (1.0, 0.0)


def test_the_rule_is_stated() -> None:
    assert "first second" in RULE
