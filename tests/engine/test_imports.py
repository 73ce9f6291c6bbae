"""Import rules of the engine: pure modules stay pure, and only the torch modules load torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import engine

FOLDER = Path(engine.__file__).parent
PURE = {
    *(
        path.relative_to(FOLDER).as_posix()
        for folder in ("scheduling", "text")
        for path in FOLDER.glob(f"{folder}/*.py")
    ),
    *(f"sampling/{name}.py" for name in ("__init__", "bad_words", "grammar", "logit_rules", "params")),
    *(f"sampling/{name}.py" for name in ("schema_numbers", "schema_relax")),
    *(f"gpu/{name}.py" for name in ("__init__", "attention_work", "graph_sizes")),
    *(f"lora/{name}.py" for name in ("__init__", "adapters")),
    *(f"core/{name}.py" for name in ("lifecycle", "limits", "messages")),
    "errors.py",
}
IMPURE = {"trio", "torch", "time", "random", "secrets", "threading", "structlog", "policies"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_files_import_pure_files_only(name):
    found = imports(FOLDER / name)
    assert not {module.split(".")[0] for module in found} & IMPURE
    files = {module.replace(".", "/") + ".py" for module in found if module.startswith("engine.")}
    assert files <= {f"engine/{pure}" for pure in PURE}


def test_what_the_gateway_sees_of_the_engine_does_not_load_torch():
    names = "engine.core.loop, engine.text.chat_template, engine.testing.fake_runner"
    code = f"import {names}, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parent)
    assert done.stdout == "False\n"
