from collections import Counter
from random import Random

import pytest

from config.model.table import Seconds
from loadtests.model.lengths import Lengths, PauseTimes, SessionSettings, SharedPrefix
from loadtests.model.scenario import Arrivals, RequestKind, Scenario
from loadtests.schedule.draws import draw_length, draw_pause
from loadtests.schedule.request_plan import Planner
from loadtests.schedule.traced_request import TracedRequest
from loadtests.schedule.words import WORDS

THINK, TOOL = PauseTimes(exactly=Seconds(4)), PauseTimes(exactly=Seconds(1))
SCENARIO = Scenario(
    schema=1,
    arrivals=Arrivals(rate=1),
    mix=(
        RequestKind(name="a", weight=3, prefix="p", prompt=Lengths(exactly=5), output=Lengths(low=2, high=4)),
        RequestKind(name="b", session="s", prompt=Lengths(exactly=2)),
    ),
    prefixes={"p": SharedPrefix(tokens=Lengths(exactly=20), variants=2)},
    sessions={
        "s": SessionSettings(
            turns=Lengths(exactly=3),
            think=PauseTimes(exactly=Seconds(4)),
            tool_share=0.5,
            tool=PauseTimes(exactly=Seconds(1)),
        )
    },
)


def test_the_number_alone_says_what_a_request_is() -> None:
    forward = [Planner(SCENARIO).plan(number) for number in range(50)]
    planner = Planner(SCENARIO)
    assert [planner.plan(number) for number in reversed(range(50))] == forward[::-1]
    assert len({plan.turns[0].text for plan in forward}) == 50


def test_weights_prefixes_and_lengths() -> None:
    plans = [Planner(SCENARIO).plan(number) for number in range(400)]
    kinds = Counter(plan.kind.name for plan in plans)
    assert kinds["a"] / 400 == pytest.approx(0.75, abs=0.07)
    of_a = [plan for plan in plans if plan.kind.name == "a"]
    assert len({plan.system for plan in of_a}) == 2
    assert {len(plan.system.split()) for plan in of_a} == {20}
    assert {plan.turns[0].max_tokens for plan in of_a} == {2, 3, 4}
    assert {len(plan.turns[0].text.split()) for plan in of_a} == {5}


def test_turns_pause_for_people_or_for_tools() -> None:
    plans = [Planner(SCENARIO).plan(number) for number in range(200)]
    turns = [turn for plan in plans if plan.kind.name == "b" for turn in plan.turns[1:]]
    assert {(turn.by_tool, turn.pause_s) for turn in turns} == {(False, 4.0), (True, 1.0)}


def test_words_are_different_words() -> None:
    assert len(set(WORDS)) == len(WORDS) > 200


@pytest.mark.parametrize(
    ("lengths", "low", "high", "median"),
    [
        (Lengths(exactly=7), 7, 7, 7),
        (Lengths(exactly=7, at_most=5), 5, 5, 5),
        (Lengths(low=2, high=6), 2, 6, 4),
        (Lengths(values=(1, 1, 1, 9)), 1, 9, 1),
        (Lengths(median=100.0, p95=400.0, at_most=1000), 1, 1000, 100),
    ],
)
def test_lengths(lengths: Lengths, low: int, high: int, median: int) -> None:
    rng = Random(3)
    drawn = sorted(draw_length(lengths, rng) for _ in range(2000))
    assert low <= drawn[0] <= drawn[-1] <= high
    assert drawn[1000] == pytest.approx(median, rel=0.1)
    if lengths.p95:
        assert drawn[1900] == pytest.approx(lengths.p95, rel=0.15)


def test_pauses() -> None:
    rng = Random(3)
    drawn = sorted(
        draw_pause(PauseTimes(median=Seconds(2), p95=Seconds(8), at_most=Seconds(9)), rng) for _ in range(2000)
    )
    assert drawn[1000] == pytest.approx(2, rel=0.1)
    assert drawn[-1] == 9


def traced(count: int, **fields: object) -> list[TracedRequest]:
    return [TracedRequest(at_s=float(n), prompt_tokens=30, output_tokens=7, **fields) for n in range(count)]


def test_a_trace_gives_the_lengths() -> None:
    plan = Planner(Scenario(schema=1), traced(3)).plan(2)
    assert [(len(turn.text.split()), turn.max_tokens) for turn in plan.turns] == [(30, 7)]


def test_equal_blocks_of_a_trace_are_equal_words() -> None:
    trace = [
        TracedRequest(at_s=0, prompt_tokens=40, output_tokens=1, prefix=prefix, prefix_block=16)
        for prefix in ((1, 2), (1, 3), (1, 2), (4,))
    ]
    planner = Planner(Scenario(schema=1), trace)
    texts = [planner.plan(number).turns[0].text.split() for number in range(4)]
    assert [len(text) for text in texts] == [40] * 4
    assert texts[0][:16] == texts[1][:16] != texts[3][:16]
    assert texts[0][16:32] == texts[2][16:32] != texts[1][16:32]
    assert texts[0][32:] != texts[2][32:]  # beyond the blocks each has its own


def test_a_block_that_is_cut_is_still_shared() -> None:
    trace = [TracedRequest(at_s=0, prompt_tokens=n, output_tokens=1, prefix=(1, 2), prefix_block=16) for n in (20, 32)]
    planner = Planner(Scenario(schema=1), trace)
    short, long = (planner.plan(number).turns[0].text.split() for number in range(2))
    assert long[:20] == short


def test_requests_of_a_recorded_tenant_are_of_its_kinds() -> None:
    mix = (RequestKind(name="a", tenant="acme"), RequestKind(name="b", tenant="zeta"), RequestKind(name="c"))
    scenario = Scenario(schema=1, mix=mix)
    names = {Planner(scenario, traced(40, tenant="acme")).plan(number).kind.name for number in range(40)}
    assert names == {"a"}
    assert len({Planner(scenario, traced(40)).plan(number).kind.name for number in range(40)}) == 3
