"""What the files and the page for operators name is there. No container is built."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from config.model.settings import ServerSettings
from gateway.cli.main import _parser
from tests.paths import ROOT
from tests.patience import PATIENCE_S

PAGE = (ROOT / "docs/deployment.md").read_text()


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@pytest.fixture
def unit() -> configparser.ConfigParser:
    found = re.search(r"```ini\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(found[1])
    return parser


def parses(command: list[str]) -> None:
    """As a command of `penstock`, without running it."""
    assert _parser().parse_args(command)


def test_the_unit_starts_and_ends_it(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    program, *command = shlex.split(service["ExecStart"])
    assert program.endswith("/penstock")
    parses(command)
    assert seconds(service["TimeoutStopSec"]) > ServerSettings().drain
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = re.search(r"```ini\n(.*?)```", PAGE, re.DOTALL)
    assert text is not None
    file = tmp_path / "penstock.service"
    file.write_text(text[1].replace("/opt/penstock/.venv/bin/penstock", shutil.which("true") or ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", file], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert "penstock.service" not in done.stderr, done.stderr


def test_the_image_copies_what_the_wheel_holds() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {
        source for line in lines if line.startswith("COPY ") and "--from" not in line for source in line.split()[1:-1]
    }
    assert all((ROOT / each).exists() for each in copied)
    packages = re.search(r"wheel\]\npackages = (\[.*?\])", (ROOT / "pyproject.toml").read_text())
    assert packages is not None
    assert copied >= set(yaml.safe_load(packages[1]))
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == kept


def test_the_image_serves() -> None:
    command = re.search(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert command is not None
    parses(yaml.safe_load(command[1]))


def test_compose_gives_it_time_to_drain() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["penstock"]
    assert seconds(service["stop_grace_period"]) > ServerSettings().drain
    assert (ROOT / service["build"] / "Dockerfile").exists()
