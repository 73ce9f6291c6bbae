"""Of long tables a run takes a sample, always the same; `make slow` takes the rest."""

import random
from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sampled(rows: Iterable[tuple[str, Any]], count: int, always: Collection[str] = ()) -> list[Any]:
    """Parameters from (name, value): all but `count` of them, and those of the names in `always`, are slow."""
    rows = list(rows)
    names = [name for name, _ in rows]
    chosen = {*random.Random(1).sample(names, min(count, len(names))), *always}
    return [pytest.param(value, id=name, marks=[] if name in chosen else [pytest.mark.slow]) for name, value in rows]
