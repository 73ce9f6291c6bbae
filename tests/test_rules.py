"""Rules of the service that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

ROOMS = ("gateway", "actors", "engine", "policies", "config", "loadtests")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def names(path: Path) -> Iterator[str]:
    """Everything that a file imports or asks a module for, dotted."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases)
            case ast.ImportFrom(module=module, names=aliases) if module is not None:
                yield module
                yield from (f"{module}.{alias.name}" for alias in aliases)
            case ast.Attribute(value=ast.Name(id=module), attr=attribute):
                yield f"{module}.{attribute}"


def users(*wanted: str) -> set[str]:
    """Files, from the root, that use one of the names."""
    return {str(path.relative_to(ROOT)) for path in FILES if not set(wanted).isdisjoint(names(path))}


def test_threads_live_in_one_file() -> None:
    assert users("threading", "trio.to_thread", "concurrent.futures") == {"actors/kernel/thread_bridge.py"}


def test_processes_that_stay_are_started_in_one_place() -> None:
    # They must not outlive this one: see engine/tensor_parallel/worker.py.
    assert users("subprocess.Popen", "multiprocessing", "torch.multiprocessing", "os.fork") == {
        "engine/tensor_parallel/runner.py"
    }


def test_tenacity_stays_in_the_thread_that_may_block() -> None:
    # Its clock is the wall's, not trio's, and it does not look inside exception groups.
    assert users("tenacity") == {"actors/ledger/store.py"}
    assert users("tenacity.stop_after_delay", "tenacity.retry_if_exception_type") == set()


@pytest.mark.parametrize("name", ["trio.Lock", "trio.Semaphore", "pickle", "eval", "time.sleep"])
def test_what_nobody_uses(name: str) -> None:
    assert users(name) == set()


PATIENT = {
    "tests/actors/clock_workers.py": "an engine's clock is the autojump clock",
    "tests/actors/books/ways_out.py": "under the autojump clock",
    "tests/actors/upstream/network.py": "under the autojump clock",
    "tests/gateway/http/bounds/test_connection_places.py": "`wait` is a place's, without a clock",
    "tests/mutants/trial.py": "a mutant that hangs is ended",
}
"""Files without an autojump clock of their own that may say how long something is waited for, and why."""


def numbers_waited_for(path: Path) -> list[str]:
    """Where a file waits for something with a number written there, instead of `PATIENCE_S`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        given = [each.value for each in node.keywords if each.arg in {"timeout", "timeout_s"}]
        if name in {"fail_after", "wait", "join", "settimeout"}:
            given += node.args
        if name in {"get", "post", "request"} and ast.unparse(node.func).startswith("httpx.") and not given:
            found.append(
                f"{path.relative_to(ROOT)}:{node.lineno}: httpx waits for five seconds if nothing else is said"
            )
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
            for each in given
            # A wait of a few milliseconds is one that is meant to end.
            if isinstance(each, ast.Constant) and isinstance(each.value, int | float) and each.value >= 1
        ]
    return found


def test_on_the_real_clock_tests_wait_with_patience() -> None:
    """Else whether they pass depends on what else the machine does."""
    files = [path for path in sorted((ROOT / "tests").rglob("*.py")) if "autojump_clock" not in path.read_text()]
    found = [each for path in files if str(path.relative_to(ROOT)) not in PATIENT for each in numbers_waited_for(path)]
    assert not found, "\n".join(found)
