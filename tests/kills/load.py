"""The mixed load: kinds of requests, and what each is answered where nothing is killed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import trio
from structlog.testing import capture_logs

from tests.fault_table import upstreams as up
from tests.fault_table.product import JSON, SEEDED, TOOLS
from tests.fault_table.scene import Scene, scene, simulated
from tests.fault_table.seen import Seen

LONG = {"max_tokens": 24, "ignore_eos": True}
STEP_S = 0.02
ENGINES = ("small", "small", "large")
"""The small one has more to do."""
CLOUD = {"model": "two-clouds"}


@dataclass(frozen=True)
class Kind:
    """Of request."""

    body: Mapping[str, Any]
    choices: int = 1
    is_json: bool = False
    counts: bool = False
    """Each piece that a client sees is one token."""


KINDS = {
    "greedy": Kind({**LONG, "model": "small"}),
    "greedy, on the large engine": Kind({**LONG, "model": "large"}),
    "seeded": Kind({**LONG, **SEEDED}),
    "seeded, on one engine": Kind({**LONG, **SEEDED, "model": "alone"}),
    "n = 3": Kind({**LONG, **SEEDED, "n": 3}, choices=3),
    "log-probabilities": Kind({**LONG, **SEEDED, "logprobs": True, "top_logprobs": 2}),
    "JSON": Kind({**SEEDED, **JSON, "max_tokens": 200}, is_json=True),
    "a tool call": Kind({**SEEDED, **TOOLS, "max_tokens": 300}),
    "a cascade in a window": Kind({**LONG, **SEEDED, "model": "both"}),
    "a cascade that decides at the end": Kind({**LONG, "model": "whole"}),
    "verified drafts": Kind({**LONG, **SEEDED, "model": "checked"}),
    "an upstream": Kind(CLOUD, counts=True),
    "an upstream, n = 2": Kind({**CLOUD, "n": 2}, choices=2, counts=True),
}
SERVERS = dict.fromkeys("ab", up.answers())


def service(folder: Path) -> Any:
    return scene(folder, servers=SERVERS, blocks=1024, step_s=STEP_S)


@cache
def _uncut() -> tuple[dict[str, Seen], dict[str, float]]:
    async def ask_all() -> tuple[dict[str, Seen], dict[str, float]]:
        here: Scene
        async with service(Path("/nowhere")) as here:
            answers = {name: await here.ask("whole", kind.body) for name, kind in KINDS.items()}
            await trio.sleep(1)
            rows = here.service.rows()
            return answers, {name: rows[seen.request_id]["cost"] for name, seen in answers.items()}

    with capture_logs():
        answers, costs = simulated(ask_all)
    for name, seen in answers.items():
        assert seen.done, (name, seen.error)
        assert is_valid(name, seen)
    return answers, costs


def uncut() -> Mapping[str, Seen]:
    """By kind."""
    return _uncut()[0]


def uncut_costs() -> Mapping[str, float]:
    """By kind."""
    return _uncut()[1]


def is_valid(name: str, seen: Seen) -> bool:
    """Whether all that must be JSON is."""
    texts = [each.text for each in seen.choices.values()] if KINDS[name].is_json else []
    texts += [arguments for each in seen.choices.values() for _, arguments in each.calls.values()]
    return all(isinstance(json.loads(text), dict) for text in texts)
