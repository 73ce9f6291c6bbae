import msgspec
import pytest

from config.model.table import Seconds
from config.model.tenancy import Price
from loadtests.client.answer import Answer, AnswerUsage
from loadtests.model.run_record import Measures
from loadtests.model.scenario import Arrivals, LoadTarget, LoadTenant, RequestKind, Scenario, SloSettings
from loadtests.running.finished_request import FinishedRequest, cost_of, is_good, labels_of
from loadtests.running.tally import Tally, merge_tallies, window_width
from loadtests.running.verdict import fairness, grouped, totals_of

SCENARIO = Scenario(
    schema=1,
    duration=Seconds(10),
    warm_up=Seconds(1),
    arrivals=Arrivals(rate=1.0),
    tenants={"a": LoadTenant(tier="gold"), "b": LoadTenant(tier="gold")},
    slo=SloSettings(ttft=Seconds(0.5)),
    tier_slo={"gold": SloSettings(ttft=Seconds(0.15))},
)


def finished(
    number: int, *, tenant: str = "", intended_s: float = 2.0, first_s: float = 0.1, failure: str = "", gaps: int = 4
) -> FinishedRequest:
    """Its events come a tenth of a second apart."""
    answer = Answer()
    answer.begin(200, {}, 0.0)
    for place in range(gaps + 1):
        answer.content("x", 1000 + intended_s + first_s + place * 0.1)
    answer.finished.add(0)
    answer.done = True
    answer.usage = AnswerUsage(3, gaps + 1, gaps + 4)
    if failure:
        answer.fail(failure, "why")
    answer.ended(1000 + intended_s + first_s + gaps * 0.1, in_order=True)
    sent_s = intended_s + 0.01
    return FinishedRequest(
        number=number,
        kind=RequestKind(name="k", tenant=tenant),
        answer=answer,
        intended_s=intended_s,
        free_s=intended_s,
        sent_s=sent_s,
        begun_s=1000.0,
    )


def tally_of(requests: list[FinishedRequest], rows: int = 100):
    tally = Tally(SCENARIO, window_s=1.0, rows=rows, seed="s")
    for request in requests:
        tally.sent(request.sent_s, 0.01)
        tally.ended(request)
    tally.read_lags.extend([0.001, 0.002])
    return tally.result()


REQUESTS = [
    finished(0, intended_s=0.5),
    finished(1, tenant="a"),
    finished(2, tenant="b", intended_s=3.0, gaps=9),
    finished(3, tenant="a", intended_s=4.0, first_s=0.3),
    finished(4, failure="truncated"),
    finished(5, failure="truncated"),
    finished(6, failure="left"),
    finished(7, failure="shed"),
]


def test_several_workers_are_as_one() -> None:
    whole = tally_of(REQUESTS)
    parts = merge_tallies([tally_of(REQUESTS[:3]), tally_of(REQUESTS[3:])], 100, "s")
    assert sorted(parts.groups) == sorted(whole.groups)
    assert parts.rows == sorted(whole.rows, key=lambda row: (row.intended_s, row.number))
    assert sorted(parts.windows) == sorted(whole.windows)
    for index, window in whole.windows.items():
        assert parts.windows[index].measures == window.measures
        assert parts.windows[index].tokens == window.tokens
    assert {(each.name, each.count) for each in parts.failures} == {("truncated", 2), ("shed", 1)}
    assert parts.lag.sending.count == 8


def test_counts_without_the_warm_up() -> None:
    tally = tally_of(REQUESTS)
    totals = totals_of(tally.groups)
    assert (totals.requests, totals.ok, totals.failed, totals.left, totals.shed) == (7, 3, 2, 1, 1)
    assert (tally.requests, len(tally.rows)) == (8, 8)
    assert [row.measured for row in tally.rows] == [False, *[True] * 7]
    assert totals.output_tokens == 5 + 10 + 5
    assert totals.latencies.itl.count == 4 + 9 + 4  # those of whole answers
    assert totals.latencies.itl.percentile(50) == pytest.approx(0.1, rel=0.002)
    assert totals.latencies.tpot.percentile(50) == pytest.approx(0.1, rel=0.002)
    assert totals.latencies.ttft.max_s - totals.latencies.ttft_service.max_s == pytest.approx(0.01)
    by = grouped(tally.groups)
    assert {name: measures.good for name, measures in by["tier"].items()} == {"": 0, "gold": 2}
    assert fairness({name: by["tenant"][name] for name in "ab"}) == pytest.approx(1.0)


def test_events_are_in_the_second_of_their_arrival() -> None:
    windows = tally_of([finished(0, intended_s=2.0, first_s=0.65, gaps=5)]).windows
    assert {index: window.tokens for index, window in windows.items() if window.tokens} == {2: 4, 3: 2}
    assert {index: window.measures.latencies.itl.count for index, window in windows.items()} == {2: 3, 3: 2}


def test_what_comes_in_the_measured_time_is_delivered_whenever_it_was_asked_for() -> None:
    """It is from 1 s to 10 s. Each has five tokens, a tenth of a second apart."""
    requests = [
        finished(0, intended_s=0.5),  # its last event comes at 1.0 s
        finished(1, intended_s=0.75),  # 0.85 to 1.25 s
        finished(2, intended_s=5.0, failure="truncated"),
        finished(3, intended_s=9.75),  # 9.85 to 10.25 s
        finished(4, intended_s=9.95),  # nothing before the end
    ]
    tally = tally_of(requests)
    totals = totals_of(tally.groups)
    came = totals.delivered
    assert (totals.requests, totals.good, totals.output_tokens) == (3, 2, 10)
    assert (came.tokens, came.good_tokens, came.good, came.prompt_tokens) == (1 + 3 + 5 + 2, 6, 2, 6)
    assert sum(window.measures.delivered.tokens for window in tally.windows.values()) == 25


def test_tokens_of_an_answer_are_shared_by_its_events() -> None:
    request = finished(0, intended_s=9.75)
    request.answer.usage = AnswerUsage(3, 50, 53)
    assert totals_of(tally_of([request]).groups).delivered.tokens == 20


def test_an_event_may_seem_to_have_come_before_the_last_one() -> None:
    """Stamps of the kernel's clock are brought to another one, which may go back by a microsecond."""
    request = finished(0, intended_s=2.0, first_s=0.1, gaps=0)
    for at in (1003.0, 1002.999999, 1003.1):
        request.answer.times.append(at)
    request.answer.usage = AnswerUsage(3, 4, 7)
    windows = tally_of([request]).windows
    assert {index: window.tokens for index, window in windows.items() if window.tokens} == {2: 1, 3: 3}
    assert sum(window.measures.latencies.itl.count for window in windows.values()) == 3


def test_rows_and_lags_are_bounded() -> None:
    tally = tally_of([finished(number) for number in range(50)], rows=7)
    assert (len(tally.rows), tally.requests) == (7, 50)
    assert tally.lag.reading.count == 2


PRICES = {
    "large": Price(input=2.0, output=10.0, cached_input=0.5),
    "m": Price(input=1.0, output=4.0),
}


@pytest.mark.parametrize(
    ("rung", "usage", "cost"),
    [
        ("large", {"prompt_tokens": 100, "completion_tokens": 5}, 100 * 2 + 5 * 10),
        ("other", {"prompt_tokens": 100, "completion_tokens": 5}, 100 * 1 + 5 * 4),
        ("large", {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, 5 * 2 + 4 * 0.5 + 5 * 10),
        ("large", {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 99}}, 9 * 0.5 + 5 * 10),
        ("large", {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": "?"}}, 9 * 2 + 5 * 10),
        ("large", {"prompt_tokens": 9, "prompt_tokens_details": None}, 9 * 2 + 5 * 10),
        ("large", {"cost": 0.25}, 250_000),
        ("large", {"cost": 0}, 0),
        ("large", {"cost": "much"}, 5 * 10),
        ("large", {"cost": -1}, 5 * 10),
        ("large", None, 5 * 10),
    ],
)
def test_the_server_s_word_on_cost_counts_before_prices(rung: str, usage, cost: float) -> None:
    scenario = msgspec.structs.replace(SCENARIO, prices=PRICES, target=LoadTarget(model="m"))
    request = finished(0)
    request.answer.rung = rung
    request.answer.usage = None if usage is None else msgspec.json.decode(msgspec.json.encode(usage), type=AnswerUsage)
    assert cost_of(request, labels_of(request, scenario), scenario) == pytest.approx(cost / 1e6)
    free = cost_of(request, labels_of(request, SCENARIO), SCENARIO)
    assert free == (0.25 if cost == 250_000 else 0.0)


def test_good_tokens_carry_the_cost_of_the_others() -> None:
    scenario = msgspec.structs.replace(SCENARIO, prices={"m": Price(input=0.0, output=3.0)})
    scenario = msgspec.structs.replace(scenario, target=LoadTarget(model="m"))
    tally = Tally(scenario, window_s=1.0, rows=10, seed="s")
    for request in (finished(1), finished(2), finished(3, first_s=0.6), finished(4, failure="truncated")):
        tally.ended(request)
    totals = totals_of(tally.result().groups)
    assert totals.cost == pytest.approx(3 * 5 * 3.0 / 1e6)
    assert totals.token_cost == pytest.approx(3.0)
    assert totals.good_token_cost == pytest.approx(4.5)
    assert Measures().token_cost is None
    assert Measures().good_token_cost is None


@pytest.mark.parametrize(
    ("slo", "good"),
    [
        (SloSettings(), True),
        (SloSettings(ttft=Seconds(0.11), itl=Seconds(0.11), tpot=Seconds(0.11), e2e=Seconds(0.51)), True),
        (SloSettings(ttft=Seconds(0.09)), False),
        (SloSettings(itl=Seconds(0.09)), False),
        (SloSettings(tpot=Seconds(0.09)), False),
        (SloSettings(e2e=Seconds(0.49)), False),
    ],
)
def test_good_meets_every_objective_from_the_intended_time(slo: SloSettings, good: bool) -> None:
    assert is_good(finished(0), slo) is good
    assert not is_good(finished(0, failure="truncated"), slo)


def test_long_runs_have_wider_windows() -> None:
    assert (window_width(60), window_width(3600), window_width(3601)) == (1, 1, 2)
