"""A file with more than fifty different faults: all are reported at their lines, and none hides another."""

import datetime as dt
import re
import shutil
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from config.load import load
from config.model.calibration import Calibration, CalibrationData, CalibrationError, CalibrationRow
from config.problems.errors import ConfigError, Severity
from tests.paths import ROOT

FILE = ROOT / "tests/config/faulty" / "everything.toml"
TODAY = dt.date(2026, 11, 21)

Reported = dict[tuple[int, Severity], list[str]]


@pytest.fixture
def reported(tmp_path: Path) -> Reported:
    """The messages about the file, by line."""
    shutil.copy(FILE, tmp_path / FILE.name)
    (tmp_path / "old.json").write_bytes(msgspec.json.encode(OLD))
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / FILE.name, today=TODAY)
    messages: Reported = defaultdict(list)
    for problem in (*caught.value.problems, *caught.value.warnings):
        messages[problem.line, problem.severity].append(str(problem).split(": ", 1)[1])
    return messages


OLD = Calibration(
    name="old",
    created=dt.date(2026, 1, 1),
    statistic="min_margin",
    small="tiny",
    large="huge",
    small_digest="",
    large_digest="",
    labels="agreement",
    data=CalibrationData(sha256="", prompts=10, source="made up"),
    rows=(CalibrationRow(0.0, 0.0, 0.5), CalibrationRow(2.0, 1.0, 0.9)),
    small_accuracy=0.5,
    large_accuracy=0.9,
    isotonic=((0.0, 0.1), (2.0, 0.9)),
    error=CalibrationError(expected_calibration_error=0.1, brier=0.1, share_standard_error=0.1),
)


def wanted() -> list[tuple[int, Severity, str]]:
    marks: list[tuple[int, Severity, str]] = []
    for number, line in enumerate(FILE.read_text().split("\n"), 1):
        for kind, texts in re.findall(r"#([!?]) ([^#]*)", line):
            severity: Severity = "error" if kind == "!" else "warning"
            marks += [(number, severity, text.strip()) for text in texts.split(" | ")]
    return [mark for mark in marks if mark[0] > 3]


def test_every_fault_is_reported_at_its_line_and_nothing_else(reported: Reported) -> None:
    marks = wanted()
    assert len({text for _, _, text in marks}) >= 50
    missing = []
    for line, severity, text in marks:
        messages = reported[line, severity]
        match = next((message for message in messages if text in message), None)
        if match is None:
            missing.append((line, severity, text))
        else:
            messages.remove(match)
    assert missing == []
    assert {place: messages for place, messages in reported.items() if messages} == {}
