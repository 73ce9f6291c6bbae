"""The examples in the documentation can be loaded, have no problems, and pass their own tests."""

import datetime as dt
import re
from pathlib import Path

import msgspec
import pytest

from config.load import load, parse_settings
from config.model.calibration import Calibration, CalibrationData, CalibrationError, CalibrationRow
from config.model.words import LANGUAGES
from policies.authoring.decision import Decider
from policies.authoring.expectation import judge
from tests.config.examples import with_hashes
from tests.paths import DOCS, ROOT

POLICIES = (DOCS / "policies.md").read_text()


def blocks(name: str) -> list[str]:
    return re.findall(r"```toml\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


def whole_files(name: str) -> list[str]:
    """A block with the key `schema` begins a file; the blocks after it continue that file."""
    files: list[str] = []
    for block in blocks(name):
        if block.startswith("schema"):
            files.append(block)
        else:
            files[-1] += f"\n{block}"
    return files


def test_the_examples_of_the_configuration_make_one_good_file() -> None:
    (text,) = whole_files("configuration.md")
    settings = parse_settings(with_hashes(text), Path("/etc/penstock.toml"))
    assert settings.engines
    assert settings.keys[0].tenant in settings.tenants


def test_the_example_of_the_upstreams_is_a_good_file() -> None:
    text = whole_files("upstreams.md")[0]
    assert parse_settings(text, Path("/etc/penstock.toml")).server.answer_model == "served"


@pytest.mark.parametrize("text", whole_files("policies.md"), ids=["least", "company"])
def test_the_policies_are_good_and_pass_their_tests(text: str, tmp_path: Path) -> None:
    (tmp_path / "calibrations").mkdir()
    (tmp_path / "calibrations" / "support.json").write_bytes(msgspec.json.encode(CALIBRATION))
    (tmp_path / "policy.toml").write_text(text)
    loaded = load(tmp_path / "policy.toml", today=dt.date(2026, 11, 21))
    assert [str(warning) for warning in loaded.warnings] == []
    assert loaded.settings.tests or len(text) < 400
    decider = Decider(loaded.settings, dict.fromkeys(loaded.settings.engines, "one"))
    assert [verdict for verdict in (judge(decider, test) for test in loaded.settings.tests) if not verdict.passed] == []


def test_the_table_of_signals_has_all_of_them() -> None:
    from config.model.conditions import SignalSettings

    table = POLICIES[POLICIES.index("| field |") : POLICIES.index("### Routes")]
    for field in msgspec.structs.fields(SignalSettings):
        assert f"`{field.encode_name}" in table, field.name
    assert set(re.findall(r"`(\w+)`", table.split("| `language` |")[1].split("|")[0])) == set(LANGUAGES)


CALIBRATION = Calibration(
    name="support",
    created=dt.date(2026, 11, 1),
    statistic="min_margin",
    small="small",
    large="large",
    small_digest="",
    large_digest="",
    labels="agreement",
    data=CalibrationData(sha256="", prompts=500, source="support.jsonl"),
    rows=(CalibrationRow(0.0, 0.0, 0.7), CalibrationRow(0.5, 0.3, 0.85), CalibrationRow(2.0, 1.0, 0.9)),
    small_accuracy=0.7,
    large_accuracy=0.9,
    isotonic=((0.0, 0.4), (2.0, 0.95)),
    error=CalibrationError(expected_calibration_error=0.02, brier=0.1, share_standard_error=0.02),
)


PATHS = re.compile(r"`((?:gateway|actors|engine|policies|config|tests|benchmarks)/[\w/.-]*|\w+\.py)`")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_what_a_page_points_at_is_there(page: str) -> None:
    """A file without a folder is in the folder that its line named last."""
    missing = []
    for line in (ROOT / page).read_text().splitlines():
        folder = ROOT
        for path in PATHS.findall(line):
            place = (folder if "/" not in path else ROOT) / path
            if not place.exists() and "/" not in path:
                # Two files of one step may have folders of their own.
                place = next((each for each in ROOT.glob(f"*/**/{path}") if ".venv" not in each.parts), place)
            if not place.exists():
                missing.append(f"{page}: {path}")
            folder = place if place.is_dir() else place.parent
    assert missing == []
