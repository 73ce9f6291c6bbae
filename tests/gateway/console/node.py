"""Runs the console's modules without a browser, in node, where that is installed."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.console.console_files import console_files
from tests.patience import PATIENCE_S


def evaluate(folder: Path, code: str, given: object) -> Any:
    """The value of the default export of a module in `folder`, which becomes a copy of the files; `given` is global.

    Skips the test where node is missing.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; `make browser` runs the modules in a browser")
    for name, file in console_files().items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.content)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "case.js").write_text(code)
    (folder / "run.js").write_text(
        'import { readFileSync } from "node:fs";\n'
        'globalThis.given = JSON.parse(readFileSync(0, "utf8"));\n'
        'const made = await (await import("./case.js")).default;\n'
        "console.log(JSON.stringify(made));\n"
    )
    done = subprocess.run(
        [node, folder / "run.js"],
        input=json.dumps(given), capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
