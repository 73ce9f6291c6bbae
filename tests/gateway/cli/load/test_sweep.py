"""`penstock load sweep` as a person gives it."""

import pytest

from gateway.cli.load.run import INVALID
from gateway.cli.load.sweep import page_of
from gateway.cli.main import main
from loadtests.sweeping.sweep_record import read_sweep
from tests.loadtests.report.test_sweep_page import a_sweep
from tests.loadtests.threaded_server import ThreadedServer


def test_a_server_that_is_fast_enough_for_all(tmp_path, capsys) -> None:
    out, html = tmp_path / "sweep.json", tmp_path / "sweep.html"
    with ThreadedServer() as server:
        words = (
            f"--url {server.url} --rate 10 --for 0.5s --slo ttft=60s --most-rate 20 --share 0.5 --out {out} -o {html}"
        )
        status = main(["load", "sweep", *words.split()])
    said = capsys.readouterr()
    sweep = read_sweep(out)
    assert status in {1, INVALID}  # on a busy machine the load tester is late, and says so
    assert (sweep.outcome == "invalid") is (status == INVALID)
    if status == 1:
        assert [probe.rate for probe in sweep.probes if probe.valid] == [10, 20]
        assert "give a higher --most-rate" in said.out
    assert "run 1: 10/s; about" in said.err
    assert html.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("", "a sweep needs SLOs: give --slo"),
        ("--slo ttft=1s --clients 3", "a sweep needs an open loop"),
        ("--slo ttft=1s --share 2", "--share must be from 0.01 to 0.9999"),
        ("--slo ttft=1s --within 0", "--within must be from"),
        ("--slo ttft=1s --most-runs 0", "--most-runs must be from 1 to 200"),
        ("--slo ttft=1s --least-rate 9 --most-rate 3", "--least-rate must be below --most-rate"),
    ],
)
def test_wrong_flags_say_what_to_do(flags: str, words: str, capsys) -> None:
    assert main(["load", "sweep", *flags.split()]) == 2
    assert words in capsys.readouterr().err


def test_phases_are_refused(tmp_path, capsys) -> None:
    path = tmp_path / "s.toml"
    path.write_text('schema = 1\n[slo]\nttft = "1s"\n[[arrivals.phases]]\nlasts = "1s"\nrate = 3\n')
    assert main(["load", "sweep", str(path)]) == 2
    assert "leave the phases out" in capsys.readouterr().err


def test_no_server(capsys) -> None:
    assert main(["load", "sweep", "--url", "http://127.0.0.1:1", "--slo", "ttft=1s"]) == 1
    assert "no server at" in capsys.readouterr().err


def test_what_is_printed(capsys) -> None:
    page_of(a_sweep()).print()
    said = capsys.readouterr().out
    assert said.startswith("7.2/s with 95 % of requests good")
    for words in ("7/s, held", "10/s, too much", "░", "ttft 100 %"):
        assert words in said
    page_of(a_sweep(probes=())).print()
