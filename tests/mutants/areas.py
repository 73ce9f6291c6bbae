"""Which files are mutated, and which tests concern each of them."""

import re
from pathlib import Path

from tests.module_map import mapped

PURE_CORES_AND_BOOKS = (
    "policies/admission/quota.py",
    "policies/admission/budget.py",
    "policies/admission/prices.py",
    "policies/admission/sliding_window.py",
    "policies/fallback/breaker.py",
    "policies/fallback/clocks.py",
    "policies/fallback/retry_budget.py",
    "policies/queueing/fair_queue.py",
    "policies/queueing/backend_queue.py",
    "policies/cascade/cascade.py",
    "policies/fallback/fallback_machine.py",
    "policies/answer/answer_machine.py",
    "policies/routing/conditions.py",
    "policies/routing/route_match.py",
    "policies/rollout/guard.py",
    "policies/lifecycle/supervision.py",
    "actors/admission/admission.py",
    "actors/ledger/ledger.py",
    "actors/request/account.py",
    "actors/request/request_admission.py",
    "actors/request/response_builder.py",
    "actors/request/response_stream.py",
    "actors/protocol/delivery.py",
    "actors/breakers/breakers.py",
    "engine/scheduling",
    "engine/text/special_token_escape.py",
    "engine/text/tool_parser.py",
    "gateway/http/request.py",
    "gateway/http/websocket.py",
)
_SEARCHED = ("policies", "config", "actors", "engine", "gateway")
"""Folders of tests; end to end and the parity with transformers are too slow to be run for each mutant."""
_SERVICE = (
    "actors/books",
    "actors/test_service.py",
    "actors/request/test_response_stream.py",
    "actors/service/test_admission_and_queue.py",
)
ALONGSIDE = {
    "policies/fallback/breaker.py": ("actors/request/test_response_stream.py",),
    "policies/fallback/fallback_machine.py": ("actors/request/test_response_stream.py",),
    "policies/cascade/cascade.py": ("actors/request/test_response_stream.py",),
    "policies/answer/answer_machine.py": ("actors/request/test_response_stream.py",),
    "policies/admission/quota.py": ("actors/books",),
    "policies/admission/budget.py": ("actors/books",),
    "policies/admission/prices.py": ("actors/books",),
    "actors/admission/admission.py": (
        "actors/books",
        "actors/service/test_admission_and_queue.py",
        "actors/service/test_money.py",
    ),
    "actors/ledger/ledger.py": ("actors/ledger/test_group_commits.py", "actors/books"),
    "actors/request/account.py": (
        "actors/books",
        "gateway/endpoints/test_refusal_log.py",
        "actors/service/test_records.py",
        "actors/recording/test_recorder.py",
        "actors/request/test_response_stream.py",
        "actors/upstream/test_upstream_actor.py",
    ),
    "actors/breakers/breakers.py": ("actors/request/test_response_stream.py", "actors/upstream/test_upstream_actor.py"),
    "actors/protocol/delivery.py": _SERVICE,
    "actors/request/response_": (
        *_SERVICE,
        "actors/service/test_stops.py",
        "actors/request/test_draft_verification.py",
        "actors/upstream",
    ),
    "actors/request/request_admission.py": (
        *_SERVICE,
        "actors/service/test_money.py",
        "actors/prompt/test_output_constraints.py",
        "actors/request/test_embedding_attempt.py",
    ),
    "gateway/http/": ("faults/test_http_faults.py", "faults/test_websocket_faults.py"),
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
    """The files of tests that concern a module: of its name or in the map, those that import it, those beside it."""
    dotted = ".".join(module.with_suffix("").parts)
    imports = re.compile(rf"^\s*(?:from {re.escape(dotted)} import|import {re.escape(dotted)}\b)", re.MULTILINE)
    tests = root / "tests"
    files = [file for folder in _SEARCHED for file in sorted((tests / folder).rglob("test_*.py"))]
    named = [file for file in files if file.stem == f"test_{module.stem}"]
    importing = [file for file in files if imports.search(file.read_text())]
    in_the_map = [tests / name for name in mapped(tests).get(module.as_posix(), ()) if name.startswith(_SEARCHED)]
    beside: list[Path] = []
    for prefix, names in ALONGSIDE.items():
        if module.as_posix().startswith(prefix):
            for name in names:
                place = tests / name
                beside += sorted(place.rglob("test_*.py")) if place.is_dir() else [place] if place.exists() else []
    return [str(file.relative_to(root)) for file in dict.fromkeys([*named, *in_the_map, *importing, *beside])]
