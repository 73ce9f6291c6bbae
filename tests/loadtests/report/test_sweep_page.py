"""The page of a sweep."""

import msgspec
import pytest

from loadtests.model.run_record import RunMachine
from loadtests.model.scenario import LoadTarget
from loadtests.report.sweep_page import headline, part_rows, sweep_page
from loadtests.sweeping.probe import probe_of
from loadtests.sweeping.sweep_record import SweepRecord
from tests.loadtests.report.test_run_page import read
from tests.loadtests.sweeping.test_sweep import SLOS
from tests.loadtests.synthetic_runs import even_run

_EVIL = "http://127.0.0.1/<script>"


def a_sweep(**changes: object) -> SweepRecord:
    scenario = msgspec.structs.replace(SLOS, target=LoadTarget(url=_EVIL))
    probes = (
        probe_of(even_run(scenario), 5.0, 0.95),
        probe_of(even_run(scenario, ttft=0.9), 10.0, 0.95),
        probe_of(even_run(scenario, ttft=0.3), 7.0, 0.95),
    )
    sweep = SweepRecord(
        penstock="0",
        started_at="2026-01-01T00:00:00+00:00",
        scenario=scenario,
        machine=RunMachine("here", "a CPU", 2, "Linux", "3.11"),
        target=0.95,
        outcome="found",
        rate=7.2,
        low=7.0,
        high=7.5,
        first_broken="ttft",
        probes=probes,
    )
    return msgspec.structs.replace(sweep, **changes)


def test_the_rate_comes_first_and_the_curves_follow() -> None:
    page = sweep_page(a_sweep())
    reader = read(page)
    assert "script" not in reader.names
    assert page.index("7.2/s with 95 % of requests good (TTFT ≤ 500 ms)") < page.index("<svg")
    for words in ("Rate and goodput", "Rate and latency", "Where the time went", "to the first token", "ttft 100 %"):
        assert words in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "first to break: ttft"),
        ({"outcome": "above", "rate": 100.0}, "up to 100/s: give a higher --most-rate"),
        ({"outcome": "below", "high": 0.1}, "Even 0.1/s is too much"),
        ({"outcome": "invalid"}, "7/s still held"),
        ({"outcome": "invalid", "low": 0.0}, "could not keep its times"),
        ({"outcome": "cut_short"}, "Cut short: at least 7/s, below 7.5/s"),
        ({"outcome": "unsure", "low": 0.0, "probes": ()}, "no rate that holds is known"),
    ],
)
def test_every_outcome_has_its_words(changes: dict[str, object], words: str) -> None:
    sweep = a_sweep(**changes)
    assert words in headline(sweep)
    read(sweep_page(sweep))


def test_time_is_told_as_finely_as_the_server_does() -> None:
    whole = probe_of(even_run(SLOS, timings={"prompt": 0.05, "predicted": 0.1}), 5.0, 0.95)
    assert list(part_rows(whole)) == ["client", "prefill", "decode", "delivery"]
    queued = probe_of(even_run(SLOS, timings={"queue": 0.05}), 5.0, 0.95)
    assert list(part_rows(queued)) == ["client", "queue", "to the first token, without queue", "after the first token"]
    plain = probe_of(even_run(SLOS), 5.0, 0.95)
    assert list(part_rows(plain)) == ["client", "to the first token", "after the first token"]


def test_good_tokens_have_a_cost_where_a_price_is_known() -> None:
    assert "million" not in sweep_page(a_sweep())
    costs = (3.5, None, 3.6)
    probes = [
        msgspec.structs.replace(probe, good_token_cost=cost)
        for probe, cost in zip(a_sweep().probes, costs, strict=True)
    ]
    page = sweep_page(a_sweep(probes=tuple(probes)))
    assert "there, a million good tokens" in page
    for words in ("3.5", "3.6", "–"):
        assert f"<td>{words}</td>" in page
