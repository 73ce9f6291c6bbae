"""Which files are mutated, and which tests concern each of them."""

import re
from pathlib import Path

PURE_CORES_AND_BOOKS = (
    "policies/quota.py",
    "policies/budget.py",
    "policies/prices.py",
    "policies/sliding_window.py",
    "policies/breaker.py",
    "policies/retry_budget.py",
    "policies/fair_queue.py",
    "policies/cascade.py",
    "policies/climb.py",
    "policies/conditions.py",
    "policies/match.py",
    "policies/guard.py",
    "policies/supervision.py",
    "actors/admission.py",
    "actors/ledger.py",
    "actors/account.py",
    "actors/reception.py",
    "actors/exchange.py",
    "actors/delivery.py",
    "actors/permits.py",
    "engine/scheduling",
    "engine/text/literal.py",
    "engine/text/tool_parser.py",
    "gateway/server/request.py",
    "gateway/server/websocket.py",
)
_SEARCHED = ("policies", "config", "actors", "engine", "gateway")
"""Folders of tests; end to end and the parity with transformers are too slow to be run for each mutant."""
_HOUSE = ("actors/books", "actors/test_house.py", "actors/test_climbing.py", "actors/test_admission_and_queue.py")
_BESIDE = {
    "policies/breaker.py": ("actors/test_climbing.py",),
    "policies/climb.py": ("actors/test_climbing.py",),
    "policies/cascade.py": ("actors/test_climbing.py",),
    "policies/quota.py": ("actors/books",),
    "policies/budget.py": ("actors/books",),
    "policies/prices.py": ("actors/books",),
    "actors/admission.py": ("actors/books", "actors/test_admission_and_queue.py", "actors/test_money.py"),
    "actors/ledger.py": ("actors/test_group_commits.py", "actors/books"),
    "actors/account.py": (
        "actors/books",
        "actors/test_records.py",
        "actors/test_recorder.py",
        "actors/test_climbing.py",
        "actors/upstream/test_upstream_actor.py",
    ),
    "actors/permits.py": ("actors/test_climbing.py", "actors/upstream/test_upstream_actor.py"),
    "actors/delivery.py": _HOUSE,
    "actors/exchange.py": (*_HOUSE, "actors/test_stops.py", "actors/test_verify.py", "actors/upstream"),
    "actors/reception.py": (*_HOUSE, "actors/test_money.py", "actors/test_shapes.py", "actors/test_embedding_work.py"),
    "gateway/server/": ("faults/test_http_faults.py", "faults/test_websocket_faults.py"),
}
"""By the beginning of a path: what exercises a module without importing it."""


def sources(root: Path, paths: list[str]) -> list[Path]:
    """The files behind files and folders, from the root."""
    found: list[Path] = []
    for path in paths:
        place = root / path
        if not place.exists():
            raise SystemExit(f"no file or folder {path} in {root}")
        found += sorted(place.rglob("*.py")) if place.is_dir() else [place]
    return [place.relative_to(root) for place in found if place.name != "__init__.py"]


def tests_of(root: Path, module: Path) -> list[str]:
    """The files of tests that concern a module: of its name first, then those that import it, then those beside it."""
    dotted = ".".join(module.with_suffix("").parts)
    imports = re.compile(rf"^\s*(?:from {re.escape(dotted)} import|import {re.escape(dotted)}\b)", re.MULTILINE)
    tests = root / "tests"
    files = [file for folder in _SEARCHED for file in sorted((tests / folder).rglob("test_*.py"))]
    named = [file for file in files if file.stem == f"test_{module.stem}"]
    importing = [file for file in files if imports.search(file.read_text())]
    beside: list[Path] = []
    for prefix, names in _BESIDE.items():
        if module.as_posix().startswith(prefix):
            for name in names:
                place = tests / name
                beside += sorted(place.rglob("test_*.py")) if place.is_dir() else [place] if place.exists() else []
    return [str(file.relative_to(root)) for file in dict.fromkeys([*named, *importing, *beside])]
