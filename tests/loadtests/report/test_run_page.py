"""The page of a run: the verdict first, everything that came from elsewhere escaped, nothing loaded."""

from html.parser import HTMLParser

import msgspec
import pytest

from config.model.table import Seconds
from config.model.tenancy import Price
from loadtests.model.run_record import Measures, RunVerdict
from loadtests.model.scenario import LoadTarget, LoadTenant, SloSettings
from loadtests.report.run_page import connection_words, cost_words, run_page, scenario_slo_words, slo_words
from tests.loadtests.synthetic_runs import SCENARIO, SyntheticRequest, even_run, synthetic_record

_EVIL = '<script>alert("x")</script>&\u202e'


class _Reader(HTMLParser):
    """Tags that stand open, and all names of elements."""

    _EMPTY = frozenset({"meta", "path", "rect", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]
        if tag not in self._EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self._EMPTY:
            assert self.open.pop() == tag


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


def test_a_page_is_whole_and_loads_nothing() -> None:
    page = run_page(even_run())
    reader = read(page)
    assert "script" not in reader.names
    assert not reader.links
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page


def test_the_verdict_comes_before_every_figure() -> None:
    late = run_page(synthetic_record([SyntheticRequest(at=5.0 + n / 10) for n in range(50)], lag_s=0.5))
    assert late.index("Not valid") < late.index("goodput")
    assert "the load tester itself was late" in late
    assert "Valid: the load tester kept its times" in run_page(even_run())


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (synthetic_record([]), "No request was answered"),
        (synthetic_record([SyntheticRequest(at=9.0, failure="truncated")]), "No request was answered"),
        (
            synthetic_record([SyntheticRequest(at=9.0), SyntheticRequest(at=9.1, failure="no_done")]),
            "1 of 2 requests failed",
        ),
    ],
)
def test_what_went_wrong_is_said(record, words: str) -> None:
    page = run_page(record)
    read(page)
    assert words in page


def test_a_run_that_was_cut_short_says_so() -> None:
    record = msgspec.structs.replace(even_run(), verdict=RunVerdict(cut_short=True))
    assert "cut short" in run_page(record)


def test_everything_from_elsewhere_is_escaped() -> None:
    scenario = msgspec.structs.replace(SCENARIO, name=_EVIL, tenants={_EVIL: LoadTenant(tier=_EVIL), "b": LoadTenant()})
    fields = {"tenant": _EVIL, "name": _EVIL}
    record = synthetic_record(
        [
            SyntheticRequest(at=6.0, **fields),
            SyntheticRequest(at=6.5, tenant="b"),
            SyntheticRequest(at=7.0, failure="refused", status=400, code=_EVIL, detail=_EVIL, **fields),
        ],
        scenario,
    )
    header = msgspec.structs.replace(record.header, server=_EVIL)
    record = msgspec.structs.replace(record, header=header, verdict=RunVerdict(False, (_EVIL,)))
    page = run_page(record)
    assert "script" not in read(page).names
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page


def test_groups_and_failures_have_tables() -> None:
    scenario = msgspec.structs.replace(SCENARIO, tenants={"acme": LoadTenant(tier="gold"), "zeta": LoadTenant()})
    requests = [SyntheticRequest(at=5 + n / 10, tenant=("acme", "zeta")[n % 2]) for n in range(40)]
    requests.append(
        SyntheticRequest(at=9.0, tenant="acme", failure="shed", status=429, code="too_many", detail="later")
    )
    page = run_page(synthetic_record(requests, scenario))
    for words in ("By tenant", "By tier", "acme", "gold", "Jain", "too_many", "later"):
        assert words in page


@pytest.mark.parametrize(
    ("slo", "words"),
    [(SloSettings(), "a whole answer"), (SloSettings(ttft=0.5, tpot=0.04), "TTFT ≤ 500 ms, TPOT ≤ 40 ms")],
)
def test_objectives_in_words(slo: SloSettings, words: str) -> None:
    assert slo_words(slo) == words


def test_objectives_of_tiers_are_shown() -> None:
    tiers = {"gold": SloSettings(ttft=0.1), "free": SloSettings(e2e=9.0)}
    scenario = msgspec.structs.replace(SCENARIO, slo=SloSettings(ttft=0.5), tier_slo=tiers)
    assert scenario_slo_words(scenario) == "free: E2E ≤ 9 s; gold: TTFT ≤ 100 ms; others: TTFT ≤ 500 ms"
    assert scenario_slo_words(SCENARIO) == "a whole answer"
    assert "gold: TTFT" in run_page(even_run(scenario))


def test_costs_are_shown_where_a_price_is_known() -> None:
    tenants = {"acme": LoadTenant(), "zeta": LoadTenant()}
    scenario = msgspec.structs.replace(SCENARIO, tenants=tenants, slo=SloSettings(ttft=Seconds(0.2)))
    requests = [
        SyntheticRequest(at=5 + n / 10, tenant=("acme", "zeta")[n % 2], ttft=(0.1, 0.3)[n % 2]) for n in range(40)
    ]
    assert "million" not in run_page(synthetic_record(requests, scenario))
    priced = msgspec.structs.replace(scenario, prices={scenario.target.model: Price(input=0.0, output=4.0)})
    record = synthetic_record(requests, priced)
    page = run_page(record)
    for words in ("a million tokens", "a million good tokens", "<th>cost</th>"):
        assert words in page
    assert cost_words(record.totals) == "cost 0.0016: 4 for a million tokens out, 8 for a million of good requests"
    assert cost_words(Measures(cost=1.0, output_tokens=10)).endswith("– for a million of good requests")


def test_connections_that_were_there_before_are_named() -> None:
    assert connection_words(SCENARIO) == ""
    scenario = msgspec.structs.replace(SCENARIO, target=LoadTarget(connections=1000))
    assert "1,000 connections were opened before the run" in run_page(even_run(scenario))
