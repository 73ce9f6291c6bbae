"""The table and the page of a simulation: marked answers, differences, and rows by tier, tenant and route."""

import msgspec
import pytest

from gateway.simulation.compare import simulate
from gateway.simulation.page import page
from gateway.simulation.report import Comparison
from gateway.simulation.table import rows_of, table
from tests.gateway.simulation.worlds import policy, profile, trace
from tests.loadtests.report.test_run_page import read


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """A policy beside one that answers on a rung that is marked degraded."""
    before = policy(quota=10**9)
    degraded = msgspec.structs.replace(before.ladders["safe"][1], mark="degraded")
    routes = tuple([msgspec.structs.replace(route, use=type(route.use)(ladder="safe")) for route in before.routes])
    after = msgspec.structs.replace(before, ladders={"safe": (degraded,)}, routes=routes)
    return simulate(
        {"before": before, "after": after}, profile(), trace(1, 80), trace_name="t", profile_name="p", seed=0, speed=1,
        shares={}, progress=lambda _line: None,
    )  # fmt: skip


def test_answers_by_mark_and_their_difference(comparison: Comparison) -> None:
    before, after = comparison.reports
    assert before.marked == {}
    assert after.marked == {"degraded": 1.0}
    row = next(row for row in rows_of(comparison.reports) if row.name == "answered, marked degraded")
    assert row.cells == ("0.0 %", "100.0 %")
    assert row.difference == "+100.0 points"


@pytest.mark.parametrize(
    "name",
    [
        "tier fast: goodput",
        "tier slow: TTFT p90",
        "tenant acme: answered",
        "tenant batch: cost",
        "route chat: answered",
    ],
)
def test_rows_by_part_are_in_table_and_page(comparison: Comparison, name: str) -> None:
    (row,) = [row for row in rows_of(comparison.reports) if row.name == name]
    assert len(row.cells) == 2
    assert row.difference
    assert f"| {name} " in table(comparison)
    assert f"<td>{name}</td>" in page(comparison)
    assert f"<td>{row.difference}</td>" in page(comparison)


def test_parts_add_up(comparison: Comparison) -> None:
    for report in comparison.reports:
        for parts in (report.tenants, report.routes):
            assert sum(part.requests for part in parts.values()) == report.requests
            assert sum(part.answered for part in parts.values()) == report.answered
            assert sum(part.cost for part in parts.values()) == pytest.approx(report.cost)


def test_one_policy_has_no_difference(comparison: Comparison) -> None:
    alone = msgspec.structs.replace(comparison, reports=comparison.reports[:1])
    assert "difference" not in table(alone)
    assert "<th>difference</th>" not in page(alone)


def test_the_page_has_its_plots_and_loads_nothing(comparison: Comparison) -> None:
    text = page(comparison)
    reader = read(text)
    assert not reader.names & {"script", "img", "link"}
    assert not reader.links
    engines = {name for report in comparison.reports for name in report.timeline}
    assert engines
    assert text.count("<svg") == 2 + 3 * len(engines)
    for title in ("Time to the first token", "Answers by rung", *(f"{name}: KV blocks in use" for name in engines)):
        assert f"<h2>{title}</h2>" in text
    evil = msgspec.structs.replace(comparison, trace="<script>", notes=("<script>",))
    assert "script" not in read(page(evil)).names
