"""Addresses that do worse than the others are left out, for a while, and never most of them."""

from random import Random

import pytest
import trio

from actors.upstream.outliers import Outliers
from tests.actors.upstream.network import Asked, says
from tests.actors.upstream.test_upstream_actor import CHAT, failures, stage

GOOD_S = 0.1


def run(outliers: Outliers, calls: int, fails, ttft_s, now: float = 0.0) -> list[tuple[int, str]]:
    """Calls of all addresses in turns; who was ejected, and why. `fails(number, call)`, `ttft_s(number)`."""
    found = []
    for call in range(calls):
        for number in range(len(outliers.ejected_total)):
            failed = fails(number, call)
            why = outliers.record(number, not failed, None if failed else ttft_s(number), now)
            if why is not None:
                found.append((number, why))
    return found


def test_every_second_call_fails_here_and_none_elsewhere() -> None:
    outliers = Outliers(3)
    assert run(outliers, 20, lambda number, call: number == 1 and call % 2 == 0, lambda _: GOOD_S) == [(1, "fails")]
    assert outliers.is_ejected(1, 4.9)
    assert not outliers.is_ejected(1, 5.0)


def test_one_is_slow() -> None:
    assert run(Outliers(3), 20, lambda *_: False, lambda number: 1.0 if number == 2 else GOOD_S) == [(2, "slow")]


@pytest.mark.parametrize(
    ("fails", "ttft_s"),
    [
        (lambda _, call: call % 2 == 0, lambda _: GOOD_S),
        (lambda *_: True, lambda _: GOOD_S),
        (lambda *_: False, lambda _: 3.0),
        (lambda number, call: call % (5 if number else 10) == 0, lambda _: GOOD_S),
        (lambda *_: False, lambda number: 0.2 if number else 0.05),
    ],
    ids=["all-fail-alike", "all-fail", "all-slow", "some-failures", "a-little-slower"],
)
def test_what_is_no_outlier(fails, ttft_s) -> None:
    assert run(Outliers(3), 40, fails, ttft_s) == []


def test_few_calls_decide_nothing() -> None:
    assert run(Outliers(2), 7, lambda number, _: number == 0, lambda _: GOOD_S) == []


def test_a_single_address_is_never_ejected() -> None:
    assert run(Outliers(1), 50, lambda *_: True, lambda _: GOOD_S) == []


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_at_most_half_are_ejected_at_the_same_time(count: int) -> None:
    outliers = Outliers(count)
    run(outliers, 100, lambda number, _: number > 0, lambda _: GOOD_S)
    assert sum(outliers.is_ejected(number, 0.0) for number in range(count)) == count // 2


def test_each_ejection_is_longer_and_a_good_time_forgives() -> None:
    outliers, now, lengths = Outliers(2), 0.0, []
    for _ in range(8):
        run(outliers, 20, lambda number, _: number == 0, lambda _: GOOD_S, now)
        lengths.append(outliers.ejected_for_s(0, now))
        now += lengths[-1]
    assert lengths == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    now += 601
    run(outliers, 20, lambda number, _: number == 0, lambda _: GOOD_S, now)
    assert outliers.ejected_for_s(0, now) == 5.0


def test_outcomes_that_say_nothing_and_calls_that_began_before_do_not_count() -> None:
    outliers = Outliers(2)
    for _ in range(50):
        assert outliers.record(0, None, None, 0.0) is None
        outliers.record(1, True, GOOD_S, 0.0)
    run(outliers, 20, lambda number, _: number == 0, lambda _: GOOD_S)
    assert outliers.ejected_total == [1, 0]
    for _ in range(30):
        outliers.record(0, False, None, 1.0)
    assert run(outliers, 7, lambda number, _: number == 0, lambda _: GOOD_S, 100.0) == []


TWO = """
schema = 1
[ledger]
path = ":memory:"
[upstreams.cloud]
urls = ["http://a/v1", "http://b/v1"]
[models.any]
[[routes]]
name = "all"
use = { ladder = "one" }
[[ladders.one]]
to = "cloud"
retries = 2
"""


async def test_a_flapping_address_gets_few_calls(autojump_clock) -> None:
    """One of two addresses fails half of its calls: without ejection it would get half of all calls for ever."""
    rng = Random(3)

    async def flaps(asked: Asked) -> None:
        if rng.random() < 0.5:
            await asked.status(500)
        else:
            await says("hello")(asked)

    async with stage({"a": flaps, "b": says("hello")}, text=TWO) as (service, network):
        for _ in range(200):
            assert (await service.ask("any", prompts=CHAT)).text() == "hello"
            await trio.sleep(0.7)
        asked = [each.host for each in network.asked]
        assert asked.count("a") < 0.35 * len(asked)
        assert service.service.statistics().upstreams["cloud"].replicas["http://a/v1"].ejected_total > 1
        assert failures(service)["upstream_error"] < 60
