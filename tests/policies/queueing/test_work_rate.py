"""Work, expected waits and when a refused client gets in."""

import pytest

from policies.queueing.queue_item import QueueItem
from policies.queueing.work_rate import WorkRate


def item(prompt: int, output: int) -> QueueItem:
    return QueueItem(job_id=1, tenant="a", prompt_tokens=prompt, tokens=prompt + output)


def steady(seconds: float = 60.0) -> WorkRate:
    """A job of 100 twice a second while others wait."""
    work = WorkRate()
    work.rate.resume(0.0)
    now = 0.0
    while now < seconds:
        work.taken(100, now)
        now += 0.5
    return work


def test_work_is_the_prompt_and_twice_the_output() -> None:
    assert WorkRate().of(item(10, 20)) == 50
    assert WorkRate().of(item(0, 0)) == 1


def test_outputs_count_with_the_mean_of_those_before_and_at_most_with_their_limit() -> None:
    work = WorkRate()
    for _ in range(200):
        work.taken(1, 0.0)
        work.made(30)
    assert work.of(item(10, 1000)) == pytest.approx(10 + 2 * 30, abs=4)
    assert work.of(item(10, 5)) == 20


def test_no_wait_is_known_before_a_job_was_taken_while_others_waited() -> None:
    work = WorkRate()
    assert work.wait_s(100, 1.0) is None
    work.taken(100, 1.0)
    assert work.wait_s(100, 2.0) is None
    work.rate.resume(2.0)
    work.taken(100, 3.0)
    assert work.wait_s(100, 3.0) is not None


def test_the_wait_is_the_work_at_the_measured_rate() -> None:
    work = steady()
    found, best = work.wait_s(1000, 60.0), work.wait_s(1000, 60.0, at_best=True)
    assert found == pytest.approx(5.0, rel=0.1)
    assert best is not None
    assert found is not None
    assert 2.5 < best < 0.8 * found


def test_one_job_is_too_few_to_call_a_wait_hopeless() -> None:
    """The next one may come at any moment: the measured rate has fallen to a half of the true one until then."""
    work = WorkRate()
    work.rate.resume(0.0)
    work.taken(100, 1.0)
    assert work.wait_s(100, 2.0) == pytest.approx(1.0, rel=0.1)
    best = work.wait_s(100, 2.0, at_best=True)
    assert best is not None
    assert best < 0.5


def told(work: WorkRate, excess_s: float, size: int, now: float, times: int = 1) -> list[float]:
    """What so many that are refused one after the other are told."""
    found = []
    for _ in range(times):
        found.append(work.come_back_s(excess_s, now))
        work.refused(size, now)
    return found


def test_those_who_are_refused_come_back_one_after_the_other() -> None:
    work = steady()
    assert told(work, 1.0, 100, 60.0, 5) == pytest.approx([1.0, 1.5, 2.0, 2.5, 3.0], rel=0.1)
    # What was served since makes room.
    assert told(work, 1.0, 100, 61.0) == pytest.approx([2.5], rel=0.1)
    assert told(work, 1.0, 100, 1000.0) == pytest.approx([1.0], rel=0.1)


def test_looking_counts_nothing() -> None:
    work = steady()
    assert len({work.come_back_s(1.0, 60.0) for _ in range(5)}) == 1


def test_before_anything_was_measured_only_its_own_excess_counts() -> None:
    work = WorkRate()
    assert [told(work, excess_s, 100, 10.0)[0] for excess_s in (0.5, 0.0, 0.5)] == [0.5, 0.1, 0.5]


def test_nobody_is_sent_away_for_more_than_a_minute() -> None:
    work = steady()
    assert max(told(work, 1.0, 1000, 60.0, 100)) == 60.0
    assert told(work, 0.0, 1, 10_000.0) == [0.1]


def test_work_in_a_time() -> None:
    assert WorkRate().in_s(1.0) == 0.0
    assert steady().in_s(2.0) == pytest.approx(400, rel=0.1)
