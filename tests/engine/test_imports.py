"""What the engine's files may import: pure ones decide only, and nothing outside the torch files loads torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import engine

FOLDER = Path(engine.__file__).parent
PURE = [
    "adapters",
    "attention_work",
    "bad_words",
    "batch",
    "block_chain",
    "block_manager",
    "block_table",
    "chat_template",
    "detokenizer",
    "errors",
    "grammar",
    "graph_sizes",
    "host_blocks",
    "life",
    "limits",
    "logit_rules",
    "messages",
    "output",
    "params",
    "plan",
    "scheduler",
    "seed",
    "sequence",
    "stop",
    "token_bytes",
    "tokenizer",
    "tool_calls",
    "tool_parser",
]
IMPURE = {"trio", "torch", "time", "random", "secrets", "threading", "structlog", "policies"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


@pytest.mark.parametrize("name", PURE)
def test_pure_files_import_pure_files_only(name):
    found = imports(FOLDER / f"{name}.py")
    assert not {module.split(".")[0] for module in found} & IMPURE
    assert {module.removeprefix("engine.") for module in found if module.startswith("engine.")} <= set(PURE)


def test_what_the_gateway_sees_of_the_engine_does_not_load_torch():
    code = "import engine.loop, engine.chat_template, engine.fake_runner, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parent)
    assert done.stdout == "False\n"
