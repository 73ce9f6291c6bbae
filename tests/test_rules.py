"""Rules of the service that no linter knows."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from tests.module_map import MAP_ROW, mapped
from tests.paths import ROOT

ROOMS = ("gateway", "actors", "engine", "policies", "config", "loadtests")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def names(path: Path) -> frozenset[str]:
    """Everything that a file imports or asks a module for, dotted."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        match node:
            case ast.Import(names=aliases):
                found.update(alias.name for alias in aliases)
            case ast.ImportFrom(module=module, names=aliases) if module is not None:
                found |= {module, *(f"{module}.{alias.name}" for alias in aliases)}
            case ast.Attribute(value=ast.Name(id=module), attr=attribute):
                found.add(f"{module}.{attribute}")
    return frozenset(found)


def users(*wanted: str) -> set[str]:
    """Files, from the root, that use one of the names."""
    return {str(path.relative_to(ROOT)) for path in FILES if not set(wanted).isdisjoint(names(path))}


Imports = dict[str, set[str]]
"""By module or folder, dotted: what it imports."""


@cache
def imports() -> Imports:
    """Those inside functions and those for types alone count, too: who reads a file follows them all."""
    graph = grimp.build_graph(*ROOMS, exclude_type_checking_imports=False, cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def circles(files: Imports) -> Iterator[str]:
    """One of files, if there is one; then of the files and folders of each folder."""
    folders = {"": files}
    for file, others in files.items():
        for other in others:
            ours, theirs = file.split("."), other.split(".")
            depth = next((at for at, (one, two) in enumerate(zip(ours, theirs, strict=False)) if one != two), 0)
            if depth:  # else the files of packages, which import-linter orders, or an __init__ and its own folder
                folder = folders.setdefault(".".join(ours[:depth]), {})
                folder.setdefault(".".join(ours[: depth + 1]), set()).add(".".join(theirs[: depth + 1]))
    for folder in folders.values():
        try:
            TopologicalSorter(folder).prepare()
        except CycleError as error:
            yield " imports ".join(reversed(error.args[1]))


def test_imports_go_in_no_circle() -> None:
    """Of files or of folders: else none of them can be read, tested or replaced without the others."""
    found = list(circles(imports()))
    assert not found, "\n".join(found)


def test_a_circle_is_named() -> None:
    assert list(circles({"a.x": {"a.y"}, "a.y": {"a.x"}})) == ["a.x imports a.y imports a.x"] * 2
    between = {"a.b.x": {"a.c.x"}, "a.c.y": {"a.b.y"}}
    assert list(circles(between)) == ["a.b imports a.c imports a.b"]


def test_threads_live_in_one_file() -> None:
    assert users("threading", "trio.to_thread", "concurrent.futures") == {"actors/kernel/thread_bridge.py"}


def test_the_wall_clock_is_read_in_one_place() -> None:
    """Else budgets and experiments could not be put on a test's clock."""
    readers = users("time.time", "time.time_ns", "datetime.datetime.now", "dt.datetime.now", "time.monotonic")
    assert {each for each in readers if each.startswith("actors/")} == {"actors/kernel/clock.py"}
    # What is given no other clock: the service itself, and what it makes without one in tests alone.
    assert users("actors.kernel.clock.system_time") == {
        "actors/ledger/store.py",
        "actors/service.py",
        "actors/upstream/client.py",
        "actors/worker_threads.py",
    }


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(*rooms: str) -> dict[str, list[tuple[Path, Function]]]:
    """All functions of these packages, by name, each with its file."""
    found: dict[str, list[tuple[Path, Function]]] = {}
    for path in (path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function):
                found.setdefault(node.name, []).append((path, node))
    return found


def awaits(function: Function) -> bool:
    """Other tasks may run before it returns."""
    kinds = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.AsyncFunctionDef)
    return any(isinstance(node, kinds) for node in ast.walk(function))


def test_nothing_awaits_while_settings_are_given_to_their_owners() -> None:
    """The reloader's task writes what actors own: it may, as long as no task can run in between (ADR 10).

    A plain function cannot await, whatever it calls: the one that gives, and all that take, are plain.
    """
    known = functions("actors", "policies", "config")
    assert len(known["_apply_settings"]) == 1
    assert len(known["apply_settings"]) >= 8
    for path, function in known["_apply_settings"] + known["apply_settings"]:
        assert isinstance(function, ast.FunctionDef), f"{path}: {function.name} may await"


def test_no_actor_awaits_while_a_message_is_in_hand() -> None:
    found = []
    for path in sorted((ROOT / "actors").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef) or not any("Actor[" in ast.unparse(base) for base in node.bases):
                continue
            found.append(node.name)
            for each in node.body:
                if isinstance(each, Function) and each.name in {"on", "after_batch"}:
                    assert not awaits(each), f"{node.name}.{each.name} awaits"
    assert len(found) >= 7


def test_processes_that_stay_are_started_in_one_place() -> None:
    # They must not outlive this one: see engine/child.py.
    assert users("subprocess.Popen", "multiprocessing", "torch.multiprocessing", "os.fork") == {
        "actors/kernel/spare_processes.py",
        "engine/tensor_parallel/runner.py",
        "loadtests/faults/wrapper_process.py",
    }
    # Those of the load tester end when their standard input does.
    assert users("trio.lowlevel.open_process") == {"loadtests/faults/own_process.py", "loadtests/running/run.py"}


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


MAPPED_ROOMS = ("gateway", "actors", "engine", "policies", "config", "loadtests")
TESTS = ROOT / "tests"


def does_something(path: Path) -> bool:
    """It has a function outside its protocols: else it holds types and constants."""
    nodes: list[ast.AST] = [parsed(path)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return True
        if not (isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)):
            nodes += ast.iter_child_nodes(node)
    return False


@cache
def imported(path: Path) -> frozenset[Path]:
    """Files of ours that a file imports, anywhere in it."""
    found: set[Path] = set()
    for name in names(path):
        place = ROOT.joinpath(*name.split("."))
        found |= {each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file()}
    return frozenset(found)


@cache
def reached(path: Path) -> frozenset[Path]:
    """All files of ours that are loaded, or may be, when a file runs."""
    found, new = {path}, {path}
    while new:
        new = {each for one in new for each in imported(one)} - found
        found |= new
    return frozenset(found)


def own_test(module: Path) -> Path:
    return TESTS / module.relative_to(ROOT).parent / f"test_{module.name}"


def test_the_tests_of_a_module_are_found_by_its_name_or_in_the_map() -> None:
    modules = [path for path in FILES if path.parts[len(ROOT.parts)] in MAPPED_ROOMS and path.name != "__init__.py"]
    table, wrong = mapped(TESTS), []
    for module in modules:
        name, has_own = str(module.relative_to(ROOT)), own_test(module).is_file()
        if has_own and name in table:
            wrong.append(f"{name} has a file of its name: take it out of tests/MAP.md")
        if not has_own and name not in table and does_something(module):
            wrong.append(
                f"{name}: write {own_test(module).relative_to(ROOT)}, or say in tests/MAP.md where its tests are"
            )
    wrong += [
        f"tests/MAP.md: there is no {name}"
        for name in sorted(table.keys() - {str(m.relative_to(ROOT)) for m in modules})
    ]
    assert not wrong, "\n".join(wrong)


def test_the_map_names_files_that_reach_the_module() -> None:
    wrong = []
    for name, files in mapped(TESTS).items():
        for file in files:
            if not (TESTS / file).is_file():
                wrong.append(f"{name}: there is no tests/{file}")
            elif ROOT / name not in reached(TESTS / file):
                wrong.append(f"{name}: tests/{file} loads nothing that loads it")
    assert not wrong, "\n".join(wrong)


def test_every_row_of_the_map_is_read_and_in_order() -> None:
    text = (TESTS / "MAP.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(mapped(TESTS)) == len(rows)
    for section in text.split("## ")[1:]:
        modules = [row[0] for row in MAP_ROW.findall(section)]
        assert modules == sorted(modules)


def test_no_two_public_classes_share_a_name() -> None:
    """A reader who searches for a class finds one."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


PRIVATE_WORDS = re.compile(
    r"\b(house|desk|reception|lanes?|seats?|seam|shelf|colleagues|keeper|boards?|climbs?|course|purse|whoever)\b",
    re.IGNORECASE,
)
"""Words that this project once used for what the glossary names otherwise."""
ALLOWED_WORDS = {
    "engine/kernels/quantized_simd.py": "a lane of a vector register",
    "engine/kernels/simd.py": "lanes of a vector register",
    "gateway/profiling/profile.py": "a field of a file format",
}


def test_product_code_uses_the_words_of_the_glossary() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in FILES
        if str(path.relative_to(ROOT)) not in ALLOWED_WORDS
        for match in PRIVATE_WORDS.finditer(path.read_text())
    }
    assert found == set()
