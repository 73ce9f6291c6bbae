"""Rules of the house that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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
    assert users("threading", "trio.to_thread", "concurrent.futures") == {"actors/bridge.py"}


def test_processes_that_stay_are_started_in_one_place() -> None:
    # They must not outlive this one: see engine/tensor_parallel/worker.py.
    assert users("subprocess.Popen", "multiprocessing", "torch.multiprocessing", "os.fork") == {
        "engine/tensor_parallel/runner.py"
    }


def test_tenacity_stays_in_the_thread_that_may_block() -> None:
    # Its clock is the wall's, not trio's, and it does not look inside exception groups.
    assert users("tenacity") == {"actors/store.py"}
    assert users("tenacity.stop_after_delay", "tenacity.retry_if_exception_type") == set()


@pytest.mark.parametrize("name", ["trio.Lock", "trio.Semaphore", "pickle", "eval", "time.sleep"])
def test_what_nobody_uses(name: str) -> None:
    assert users(name) == set()
