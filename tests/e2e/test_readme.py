"""Every command and code block of the README and of the pages for developers runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.process import GatewayProcess
from tests.paths import ROOT
from tests.patience import PATIENCE_S

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = (
    "README.md",
    "docs/websocket.md",
    "docs/tools-and-json.md",
    "docs/console.md",
    "docs/sampling.md",
    "docs/resuming.md",
    "docs/batch.md",
    "docs/responses.md",
    "docs/messages.md",
    "docs/api.md",
)
_ADDRESS = "127.0.0.1:8080"


def blocks(name: str, *languages: str) -> list[str]:
    return [code for language, code in _BLOCK.findall((ROOT / name).read_text()) if language in languages]


def run(served: GatewayProcess, command: list[str], code: str, folder: Path = ROOT) -> str:
    code = code.replace(_ADDRESS, f"127.0.0.1:{served.port}")
    done = subprocess.run([*command, code], capture_output=True, text=True, timeout=PATIENCE_S, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", blocks("README.md", "sh", "bash", "console"))
def test_shell_blocks(served: GatewayProcess, code: str, tmp_path: Path) -> None:
    if code.startswith("make "):
        # They set up and serve or test everything, this test included: that their targets exist must do.
        targets = [line.split("#")[0].split()[1:] for line in code.strip().splitlines()]
        for target in targets:
            subprocess.run(["make", "-n", *target], capture_output=True, cwd=ROOT, check=True, timeout=PATIENCE_S)
        return
    if "curl" in code and shutil.which("curl") is None:
        pytest.skip("curl is not there")
    # What they write is not left in the project.
    for name in (".venv", "engine"):
        (tmp_path / name).symlink_to(ROOT / name)
    said = run(served, ["bash", "-euo", "pipefail", "-c"], code, tmp_path)
    if "/v1/chat/completions" in code:
        assert said.endswith("data: [DONE]\n\n")


@pytest.mark.sample(9)
@pytest.mark.parametrize("code", [code for name in PAGES for code in blocks(name, "python")])
def test_python_blocks(served: GatewayProcess, code: str) -> None:
    compile(code, "README.md", "exec")
    assert run(served, [sys.executable, "-c"], code).strip()


def test_there_is_something_to_run() -> None:
    assert blocks("README.md", "sh", "bash", "console")
    assert all(blocks(name, "python") for name in PAGES)
