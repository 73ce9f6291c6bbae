"""A configuration read in another process is the same as one read in this process."""

import os
import subprocess
from pathlib import Path

import pytest

from config.load import load
from config.profiles import embedded_profile
from config.reader import COMMAND, ReaderReport, decode_report, encode_report, encoded, report
from tests.actors.configuration import CONFIG
from tests.patience import PATIENCE_S

MORE = """
[prices]
small = { input = 0.1, output = 0.4 }
[signals.night]
time = { from = "22:00", to = "06:00", days = ["mon"] }
[[experiments]]
name = "try"
route = ["small"]
unit = "request"
arms = { control = 50, b = 50 }
override = { b = { "routes.small.midstream" = "continue", "routes.small.deadlines.ttft" = "3s" } }
[[shadows]]
name = "look"
route = ["small"]
to = "large"
share = 0.5
"""


@pytest.mark.parametrize("text", [CONFIG, CONFIG + MORE, CONFIG.replace("retries", "retrys"), "= no"])
def test_encoding_keeps_everything(text: str) -> None:
    result = report(Path("/nowhere/service.toml"), text)
    assert decode_report(encode_report(result)) == result
    assert (result.loaded is None) == bool(result.problems)


def test_a_fault_of_the_reader_is_a_problem_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OverflowError("too much")

    monkeypatch.setattr("config.reader.report", fails)
    (problem,) = decode_report(encoded(Path("/nowhere/x.toml"), None)).problems
    assert problem.file == Path("/nowhere/x.toml")
    assert "OverflowError: too much" in problem.message


def test_the_process_reads_the_same() -> None:
    path = embedded_profile()
    raw = subprocess.run([*COMMAND, str(path)], capture_output=True, check=True, timeout=PATIENCE_S).stdout
    assert decode_report(raw) == ReaderReport(load(path))
    broken = subprocess.run(
        [*COMMAND, "--stdin", "/nowhere/x.toml"],
        input=b"schema = 2",
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert any(problem.where == "schema" for problem in decode_report(broken.stdout).problems)


def test_whoever_asked_and_is_gone_gets_no_answer() -> None:
    gone, out = os.pipe()
    os.close(gone)
    try:
        ended = subprocess.run(
            [*COMMAND, str(embedded_profile())], stdout=out, stderr=subprocess.PIPE, check=True, timeout=PATIENCE_S
        )
    finally:
        os.close(out)
    assert ended.stderr == b""
