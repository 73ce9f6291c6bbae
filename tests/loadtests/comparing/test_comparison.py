"""What a comparison sees, and what it does not."""

from functools import lru_cache
from random import Random

import msgspec
import pytest

from config.model.table import Seconds
from config.model.tenancy import Price
from loadtests.comparing.comparison import ComparedMeasure, LoadComparison, compare_runs
from loadtests.comparing.condition import parse_condition
from loadtests.model.run_record import RunRecord, RunVerdict
from loadtests.model.scenario import Arrivals, SloSettings
from tests.loadtests.synthetic_runs import SCENARIO, SyntheticRequest, synthetic_record


@lru_cache
def noisy(
    seed: int,
    *,
    slower: float = 1.0,
    failing: float = 0.0,
    every_s: float = 0.02,
    duration: float = 30.0,
    plan: int = 1,
) -> RunRecord:
    scenario = msgspec.structs.replace(SCENARIO, duration=duration, seed=plan)
    rng = Random(seed)
    requests = []
    for number in range(round(duration / every_s)):
        fails = rng.random() < failing
        requests.append(
            SyntheticRequest(
                at=number * every_s,
                ttft=slower * 0.1 * rng.lognormvariate(0, 0.5),
                gaps=(0.02 * rng.lognormvariate(0, 0.2),) * 4,
                failure="truncated" if fails else "",
            )
        )
    return synthetic_record(requests, scenario)


def by_name(comparison: LoadComparison) -> dict[str, ComparedMeasure]:
    return {each.name: each for each in comparison.measures}


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_seen_where_nothing_is(seed: int) -> None:
    comparison = compare_runs([noisy(seed)], [noisy(seed + 100)])
    assert comparison.paired
    assert {each.verdict for each in comparison.measures} == {"none"}


def test_a_difference_is_seen_where_it_is_and_nowhere_else() -> None:
    comparison = compare_runs([noisy(1)], [noisy(2, slower=1.3)])
    found = by_name(comparison)
    assert found["ttft_p50"].verdict == "worse"
    assert found["ttft_p50"].change == pytest.approx(0.3, abs=0.1)
    assert found["ttft_p50"].change_low < 0.3 < found["ttft_p50"].change_high
    assert found["itl_p50"].verdict == found["failed_share"].verdict == "none"
    assert by_name(compare_runs([noisy(2, slower=1.3)], [noisy(1)]))["ttft_p50"].verdict == "better"


def test_failures_and_goodput() -> None:
    found = by_name(compare_runs([noisy(1)], [noisy(2, failing=0.2)]))
    assert found["failed_share"].verdict == found["goodput"].verdict == "worse"
    assert found["failed_share"].change is None  # of zero


def test_too_little_is_no_verdict() -> None:
    found = by_name(compare_runs([noisy(1, every_s=0.2)], [noisy(2, every_s=0.2)]))
    assert found["ttft_p99"].verdict == "unknown"
    assert "needs 1,000" in found["ttft_p99"].why
    assert found["ttft_p50"].verdict == "none"
    found = by_name(compare_runs([noisy(1, duration=5.0)], [noisy(2, duration=5.0)]))
    assert "too short" in found["goodput"].why


def test_repeats_narrow_the_interval() -> None:
    one = by_name(compare_runs([noisy(1)], [noisy(11)]))["ttft_p50"]
    five = by_name(compare_runs([noisy(n) for n in range(5)], [noisy(n + 10) for n in range(5)]))["ttft_p50"]
    assert five.high - five.low < 0.7 * (one.high - one.low)


def test_a_hard_moment_of_the_schedule_is_no_difference() -> None:
    def hard(plan: int, slower: float) -> RunRecord:
        scenario = msgspec.structs.replace(SCENARIO, seed=plan)
        requests = [
            SyntheticRequest(at=n / 20, ttft=slower * (1.0 if 200 <= n < 300 else 0.1 + n % 7 / 1000))
            for n in range(600)
        ]
        return synthetic_record(requests, scenario)

    condition = [parse_condition("ttft_mean>+1%")]
    paired = by_name(compare_runs([hard(1, 1.0)], [hard(1, 1.1)], condition))["ttft_mean"]
    apart = by_name(compare_runs([hard(1, 1.0)], [hard(2, 1.1)], condition))["ttft_mean"]
    assert paired.verdict == "worse"
    assert apart.verdict == "none"
    assert paired.high - paired.low < 0.3 * (apart.high - apart.low)


@pytest.mark.parametrize(
    ("text", "slower", "outcome"),
    [
        ("ttft_p50>+10%", 1.5, "broken"),
        ("ttft_p50>+10%", 1.0, "kept"),
        ("ttft_p50>+40%", 1.5, "unknown"),
        ("ttft_p50>+20ms", 1.5, "broken"),
        ("ttft_p50<-20%", 0.5, "broken"),
        ("ttft_p50<-20%", 1.5, "kept"),
        ("ttft_p999>+10%", 1.5, "unknown"),
        ("queue_p50>+10%", 1.5, "unknown"),
        ("failed_share>+1pp", 1.0, "kept"),
        ("failed_share>+1%", 1.0, "kept"),
    ],
)
def test_conditions(text: str, slower: float, outcome: str) -> None:
    comparison = compare_runs([noisy(1)], [noisy(2, slower=slower)], [parse_condition(text)])
    assert comparison.conditions[0].outcome == outcome, comparison.conditions


NOTHING = noisy(3, failing=1.0)
SOME = noisy(2, failing=0.001)


@pytest.mark.parametrize(
    ("text", "b", "outcome"),
    [
        ("ttft_p99>+10%", NOTHING, "broken"),
        ("ttft_p50<-10%", NOTHING, "broken"),
        ("itl_p50>+20ms", NOTHING, "broken"),
        ("goodput<-5%", NOTHING, "broken"),
        ("good_share<-5%", NOTHING, "broken"),
        ("failed_share>+1%", NOTHING, "broken"),
        ("failed_share>+1pp", NOTHING, "broken"),
        ("failed_share>+1%", SOME, "unknown"),
        ("failed_share<-1%", NOTHING, "kept"),
        ("queue_p50>+10%", NOTHING, "unknown"),
    ],
)
def test_a_server_that_answers_nothing_keeps_no_condition(text: str, b: RunRecord, outcome: str) -> None:
    comparison = compare_runs([noisy(1)], [b], [parse_condition(text)])
    assert comparison.conditions[0].outcome == outcome, comparison.conditions


SLO = SloSettings(ttft=Seconds(0.5))


def queue(seed: int, service_s: float, slo: SloSettings = SLO, duration: float = 60.0) -> RunRecord:
    """M/M/1: one server, one request after the other; ten requests a second, always at the same times."""
    arrivals, work = Random(1), Random(seed)
    requests, at, free = [], 0.0, 0.0
    while (at := at + arrivals.expovariate(10)) < duration:
        free = max(at, free) + work.expovariate(1 / service_s)
        requests.append(SyntheticRequest(at=at, ttft=free - at, gaps=()))
    scenario = msgspec.structs.replace(SCENARIO, duration=duration, warm_up=0.0, slo=slo)
    return synthetic_record(requests, scenario)


def test_equal_servers_near_their_limit_differ_seldom() -> None:
    """Blocks of one second claimed a difference in 25 to 35 of 100 such comparisons."""
    pairs = [compare_runs([queue(n, 0.08)], [queue(n + 1000, 0.08)]) for n in range(20)]
    assert sum(any(each.verdict in {"better", "worse"} for each in pair.measures) for pair in pairs) <= 2


def test_a_server_that_is_twice_as_fast_delivers_twice_as_much() -> None:
    """Both are asked for more than they can, and answer all of it in the end."""
    found = by_name(compare_runs([queue(1, 0.4, SloSettings())], [queue(2, 0.2, SloSettings())]))
    for name in ("tokens", "goodput"):
        assert found[name].verdict == "better"
    assert found["tokens"].change == pytest.approx(1.0, abs=0.3), found["tokens"]


def test_a_closed_loop_has_no_pairs() -> None:
    closed = msgspec.structs.replace(SCENARIO, arrivals=Arrivals(kind="closed", clients=2))
    record = synthetic_record([SyntheticRequest(at=n / 10) for n in range(300)], closed)
    assert not compare_runs([record], [record]).paired


def test_the_same_seed_gives_the_same_intervals() -> None:
    a, b = [noisy(1)], [noisy(2)]
    assert compare_runs(a, b) == compare_runs(a, b)
    assert compare_runs(a, b, seed=2) != compare_runs(a, b)


def test_what_makes_the_two_unlike_is_noted() -> None:
    comparison = compare_runs([noisy(1)], [noisy(2, plan=9)])
    assert not comparison.paired
    assert "different requests" in comparison.notes[0]
    bad = msgspec.structs.replace(noisy(1), verdict=RunVerdict(False, ("it was late",)))
    assert compare_runs([bad], [noisy(2)]).invalid == ("A: it was late",)


def priced(seed: int, *, slower: float = 1.0, price: float = 2.0) -> RunRecord:
    scenario = msgspec.structs.replace(
        SCENARIO, slo=SloSettings(ttft=Seconds(0.2)), prices={SCENARIO.target.model: Price(input=1.0, output=price)}
    )
    rng = Random(seed)
    requests = [SyntheticRequest(at=n * 0.02, ttft=slower * 0.1 * rng.lognormvariate(0, 0.5)) for n in range(1500)]
    return synthetic_record(requests, scenario)


def test_the_cost_of_good_tokens_rises_with_the_price_and_with_what_comes_late() -> None:
    assert not {"cost", "good_token_cost"} & set(by_name(compare_runs([noisy(1)], [noisy(2)])))
    dearer = by_name(compare_runs([priced(1)], [priced(1, price=3.0)]))
    assert {dearer[name].verdict for name in ("cost", "token_cost", "good_token_cost")} == {"worse"}
    assert dearer["token_cost"].change == pytest.approx(1 / (2 + 30 / 10))
    late = by_name(compare_runs([priced(1)], [priced(1, slower=2.0)]))
    assert (late["token_cost"].verdict, late["good_token_cost"].verdict) == ("none", "worse")
    useless = by_name(compare_runs([priced(1)], [priced(1, slower=50.0)]))["good_token_cost"]
    assert (useless.verdict, useless.b) == ("unknown", None)
    assert "B has nothing" in useless.why
