"""A seeded sample of `make kills`, and that it can fail."""

import pytest

from tests.fault_table.seen import Seen
from tests.kills.__main__ import main
from tests.kills.load import KINDS, is_valid, uncut
from tests.kills.rounds import RoundReport, Sent, judge, kill_some

SEED, ROUNDS = 1, 6
"""Some fifteen kills."""


@pytest.mark.parametrize("number", range(ROUNDS))
def test_nothing_is_lost_doubled_invented_or_left(number: int) -> None:
    assert kill_some(SEED, number).faults == []


def test_a_round_is_repeated_by_its_number() -> None:
    assert kill_some(SEED, 2) == kill_some(SEED, 2)


def _seen(text: str, **more: object) -> Seen:
    seen = Seen("SSE")
    seen.take(0, {"content": text}, None, None)
    for name, value in more.items():
        setattr(seen, name, value)
    return seen


ROW = {"prompt_tokens": 5, "completion_tokens": 3, "discarded_tokens": 0, "cost": 8.0}
WRONG = {
    "another text": (_seen("a lazy dog", done=True, ended=1, usage=(5, 3)), ROW),
    "no end": (_seen("the"), {**ROW, "cost": 0.0}),
    "two ends": (_seen("the", error="x", ended=2), {**ROW, "cost": 0.0}),
    "an end that was lost": (_seen("the", lost=True), {**ROW, "cost": 0.0}),
    "not in the ledger": (_seen("the", error="x", ended=1), None),
    "an error that is charged": (_seen("the", error="x", ended=1), ROW),
    "charged for more than was seen": (_seen("the", left=True), {**ROW, "completion_tokens": 9}),
    "charged too high": (_seen("the", left=True), {**ROW, "cost": 99.0}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str) -> None:
    seen, row = WRONG[name]
    report, sent = RoundReport(), Sent("an upstream", "SSE", 0.0)
    sent.seen = seen
    judge(report, sent, row)
    assert report.faults


def test_what_is_right_is_not() -> None:
    report, sent = RoundReport(), Sent("an upstream", "SSE", 0.0)
    sent.seen = _seen("the", left=True)
    judge(report, sent, ROW | {"completion_tokens": 1, "cost": 6.0})
    assert report.faults == []


def test_invalid_json_is_found() -> None:
    assert all(is_valid(name, seen) for name, seen in uncut().items())
    assert {name for name, kind in KINDS.items() if kind.is_json} == {"JSON"}
    with pytest.raises(ValueError, match="Expecting"):
        is_valid("JSON", _seen('{"a": '))


def test_the_command_says_what_it_did_and_what_repeats_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = [RoundReport(), RoundReport(faults=["greedy (SSE): its end was lost"])]
    reports[0].kills["client"] += 1
    reports[0].ends["left"] += 1
    monkeypatch.setattr("tests.kills.__main__.kill_some", lambda _, number: reports[number])
    assert main(["--count", "1", "--processes", "0"]) == 0
    assert "1 kills in 1 rounds (client 1)" in capsys.readouterr().out
    assert main(["--count", "5", "--processes", "0"]) == 1
    assert "make kills KILLS='--seed 0 --round 1 --processes 0'" in capsys.readouterr().out
