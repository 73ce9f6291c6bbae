"""The commands as a person gives them."""

import io
import json
import sys

import msgspec
import pytest
from rich.console import Console

from config.model.table import Seconds
from gateway.cli.load.live_view import LiveView, line_of
from gateway.cli.load.run import INVALID
from gateway.cli.load.summary import summary
from gateway.cli.main import main
from loadtests.model.record_file import read_record
from loadtests.model.run_record import FailureCount, Measures, RunVerdict
from loadtests.model.scenario import Arrivals, Scenario
from loadtests.running.progress import WorkerProgress
from tests.loadtests.model.test_record_file import a_record
from tests.loadtests.threaded_server import ThreadedServer

SCENARIO = """
schema = 1
duration = "0.3s"

[arrivals]
kind = "constant"
rate = 20
"""


@pytest.fixture
def server():
    with ThreadedServer() as server:
        yield server


def test_a_first_run_needs_no_file(server, tmp_path, capsys) -> None:
    out = tmp_path / "run.json"
    words = f"load run --url {server.url} --model m --rate 20 --arrivals constant --for 0.5s --out {out} --seed 3"
    status = main([*words.split(), "--slo", "ttft=60s,tpot=60s", "--key", "abc", "--prompt", "4", "--output", "3"])
    said = capsys.readouterr()
    record = read_record(out)
    assert status in {0, INVALID}  # on a busy machine it is late, and says so
    assert (record.totals.ok, record.totals.good, record.requests) == (9, 9, 10)
    assert (status == INVALID) is (not record.verdict.valid)
    assert said.out.startswith("NOT VALID" if status else "load test: ")
    assert "9 sent: 9 whole, 9 good (100.0 %)" in said.out
    assert "the run record is in" in said.err
    assert server.asked[0]["headers"]["authorization"] == "Bearer abc"
    assert server.asked[0]["body"]["max_tokens"] == 3
    assert len(server.asked[0]["body"]["messages"][0]["content"].split()) == 4


def test_a_scenario_s_values_give_way_to_flags(server, tmp_path) -> None:
    (tmp_path / "s.toml").write_text(SCENARIO)
    out = tmp_path / "run.json"
    words = ["load", "run", str(tmp_path / "s.toml"), "--url", server.url, "--transport", "whole", "--warm-up", "0s"]
    main([*words, "--out", str(out), "--workers", "2"])
    record = read_record(out)
    assert record.header.scenario.arrivals.rate == 20
    assert (record.totals.requests, record.totals.ok) == (6, 6)
    assert list(record.groups["transport"]) == ["whole"]


def test_no_answer_at_all_is_a_failure(server, capsys) -> None:
    server.wrong = True
    assert main(f"load run --url {server.url} --rate 20 --for 0.3s --warm-up 0s".split()) in {1, INVALID}
    said = capsys.readouterr().out
    assert "no_done" in said
    assert "no whole answer" in said


WRONG = [
    ("--rate 0", "--rate must be above 0"),
    ("--for 10", "--for: '10' is not a duration"),
    ("--slo ttfb=1s", "--slo has no 'ttfb'"),
    ("--clients 2 --rate 3", "--clients is a closed loop"),
    ("--url localhost", "penstock: target.url: this is not an address"),
    ("--clients 2 --max-in-flight 3", "--clients is a closed loop"),
    ("--workers 4 --max-in-flight 3", "arrivals.max_in_flight: 4 workers share it, and each needs a place"),
    ("--workers 2 --max-in-flight 3 --part 1/2 --start-at 2999-01-01T00:00:00Z", "less than one for each of 4 workers"),
    ("--workers 100", "workers: 100 is not allowed; expected 1 to 64"),
    ("--workers 0", "--workers must be at least 1"),
    ("--key-env PENSTOCK_NO_SUCH_KEY", "PENSTOCK_NO_SUCH_KEY is not set"),
    ("--rate 900000 --for 1h", "requests, and a run has at most"),
    ("--modle x", "did you mean --model?"),
]


@pytest.mark.parametrize(("flags", "words"), WRONG)
def test_wrong_flags_say_what_to_do(flags: str, words: str, capsys) -> None:
    try:
        status = main(["load", "run", *flags.split()])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert words in capsys.readouterr().err


def test_no_server(capsys) -> None:
    assert main(["load", "run", "--url", "http://127.0.0.1:1", "--for", "1s"]) == 1
    assert "no server at http://127.0.0.1:1" in capsys.readouterr().err


def test_check_and_schema(tmp_path, capsys) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO)
    assert main(["load", "check", str(path)]) == 0
    assert "about 6 arrivals (constant)" in capsys.readouterr().out
    path.write_text(SCENARIO + "burst = 3\n")
    assert main(["load", "check", str(path)]) == 2
    assert "did you mean 'burstiness'?" in capsys.readouterr().err
    assert main(["load", "check", str(path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)[0]["line"] == 8
    assert main(["load", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "A Penstock load test"


def test_what_the_wire_says_is_printed_without_what_a_terminal_obeys(capsys) -> None:
    failure = FailureCount("refused", 1, 400, "x\x1b[2J", example="a\nb")
    summary(a_record(failures=(failure,), verdict=RunVerdict(cut_short=True))).print()
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "a?b" in said
    assert "CUT SHORT" in said


def test_what_was_not_measured_is_no_zero(capsys) -> None:
    groups = {"kind": {"a": Measures(requests=3), "b": Measures()}}
    summary(msgspec.structs.replace(a_record(), groups=groups)).print()
    said = capsys.readouterr().out
    rows = said[said.index("by kind") :].splitlines()[2:4]
    assert [row.split()[-3:] for row in rows] == [["–"] * 3] * 2


def test_objectives_that_are_given_hold_for_all_tiers(server, tmp_path) -> None:
    text = SCENARIO + '[tenants.a]\ntier = "gold"\n[[mix]]\ntenant = "a"\n[tier_slo.gold]\nttft = "1ms"\n'
    (tmp_path / "s.toml").write_text(text)
    out = tmp_path / "run.json"
    main(["load", "run", str(tmp_path / "s.toml"), "--url", server.url, "--slo", "ttft=60s", "--out", str(out)])
    record = read_record(out)
    assert (record.header.scenario.tier_slo, record.totals.good) == ({}, record.totals.ok)


PROGRESS = WorkerProgress(at_s=5.0, sent=20, ok=15, in_flight=5)


def test_the_live_view_on_a_terminal_and_elsewhere(capsys) -> None:
    scenario = Scenario(schema=1, duration=Seconds(10), arrivals=Arrivals(rate=4.0))
    view = LiveView(scenario)
    with view:
        view.show(PROGRESS)
    assert "sent 20, in flight 5, whole 15" in capsys.readouterr().err
    shown_in = io.StringIO()
    console = Console(file=shown_in, width=100)
    console.print(view.picture(PROGRESS, WorkerProgress(at_s=4.0, sent=16)))
    shown = shown_in.getvalue()
    assert "measuring, 5 s left" in shown
    assert "4.0/s" in shown
    assert line_of(PROGRESS, 10).startswith("   5.0 s of 10 s")
    assert not sys.stderr.isatty()
