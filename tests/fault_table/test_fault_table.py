"""A sample of the rows of docs/faults.md is run again, so that the page cannot rot. `make faults` writes it."""

from collections import Counter
from pathlib import Path

import pytest

from tests.actors.upstream.network import Asked
from tests.fault_table import processes
from tests.fault_table import upstreams as up
from tests.fault_table.case import Case, FaultRow
from tests.fault_table.cases import CASES
from tests.fault_table.document import PAGE, VERDICTS, line, page, summary
from tests.fault_table.scene import Scene
from tests.sampling import named

LINES = PAGE.read_text().splitlines()


@pytest.mark.sample(10)
@pytest.mark.parametrize("case", named([(each.name, each) for each in CASES]))
def test_the_page_says_what_happens(case: Case) -> None:
    assert line(case.run()) in LINES


@pytest.mark.slow
def test_the_page_says_what_happens_to_processes(tmp_path: Path) -> None:
    assert [line(row) for row in processes.run(tmp_path) if line(row) not in LINES] == []


def test_every_case_has_a_row_of_its_own() -> None:
    names = Counter(each.name for each in CASES)
    assert [name for name, count in names.items() if count > 1] == []
    expected = len(CASES) + 3 * (len(processes.STATES) + 1)
    assert sum(row.startswith("| ") for row in LINES) - sum(row.startswith(("| what", "| ---")) for row in LINES) == (
        expected
    )
    assert f"**{expected} rows.**" in PAGE.read_text()


def test_no_answer_is_dressed_as_a_success_and_nothing_is_left() -> None:
    text = PAGE.read_text()
    assert "DRESSED" not in text
    assert "NOT CLEAN" not in text
    assert "None was dressed as a success" in text


def test_an_answer_that_goes_on_as_another_one_is_found() -> None:
    def arm(here: Scene) -> None:
        here.network.servers["a"] = up.fails_after(here, 3, up.closes)
        here.network.servers["b"] = up.first(_says_something_else)

    case = Case("upstream killed", "x", arm, body={"model": "two-clouds"}, servers=dict.fromkeys("ab", up.answers()))
    assert case.run().verdict == "DRESSED"


async def _says_something_else(asked: Asked) -> None:
    await up.begin(asked, up.text_deltas(["a lazy dog"]))
    await up.end(asked)


def test_the_summary_counts_what_would_be_a_lie() -> None:
    good = FaultRow("provider", "x", "", "SSE", "200", "rescued", "1 + 1", "+0.1 s", "clean")
    lie = FaultRow("provider", "y", "", "SSE", "200", "DRESSED", "1 + 1", "+0.1 s", "NOT CLEAN: a block")
    assert "None was dressed as a success. 1 of 1 left nothing" in summary([good])
    assert "1 was dressed as a success. 1 of 2 left nothing" in summary([good, lie])
    assert line(lie) in page([good, lie])
    assert "DRESSED" not in VERDICTS
