"""How fast a queue drains, and what a refused client is told of it."""

import pytest

from policies.queueing.drain_rate import DrainRate


def test_a_steady_rate_is_measured() -> None:
    rate = DrainRate()
    assert rate.retry_after_s(5, 0.0) == 1.0
    rate.resume(0.0)
    for step in range(400):
        rate.served(1, step * 0.1)
    assert rate.rate(40.0) == pytest.approx(10, rel=0.05)
    assert rate.retry_after_s(20, 40.0) == pytest.approx(2, rel=0.05)
    assert rate.retry_after_s(10**6, 40.0) == 60.0
    assert rate.retry_after_s(0, 40.0) == 0.1


def test_a_stalled_queue_asks_for_patience_and_an_idle_one_keeps_its_rate() -> None:
    stalled, idle = DrainRate(), DrainRate()
    stalled.resume(0.0)
    idle.resume(0.0)
    for step in range(400):
        stalled.served(1, step * 0.1)
        idle.served(1, step * 0.1)
    assert stalled.wait_s(10, 80.0) == pytest.approx(40, rel=0.5)
    assert stalled.retry_after_s(10, 10**5) == 60.0
    idle.pause(39.95)
    idle.served(1000, 50.0)
    idle.resume(80.0)
    assert idle.wait_s(10, 80.0) == pytest.approx(1, rel=0.1)


def test_the_first_instant_is_not_trusted() -> None:
    rate = DrainRate()
    rate.resume(0.0)
    rate.served(1, 0.0)
    rate.served(1, 0.001)
    assert rate.rate(0.001) <= 8
