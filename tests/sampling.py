"""Of long tables CI runs a sample, always the same; `make slow` runs the rest.

`@pytest.mark.sample(12)` on a test with parameters: all but twelve of its cases are slow. `always=["id"]`: cases with
this parameter are in the sample, too.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def named(rows: Iterable[tuple[str, Any]]) -> list[Any]:
    """Parameters from (name, value)."""
    return [pytest.param(value, id=name) for name, value in rows]


def mark_slow(items: Sequence[pytest.Item]) -> None:
    """Mark what is in no sample."""
    tables: dict[str, list[pytest.Function]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("sample") is not None:
            tables[item.nodeid.partition("[")[0]].append(item)
    for name, cases in tables.items():
        mark = cases[0].get_closest_marker("sample")
        assert mark is not None
        (count,) = mark.args
        chosen = {case.nodeid for case in random.Random(name).sample(cases, min(count, len(cases)))}
        for case in cases:
            if case.nodeid not in chosen and not _is_one_of(case, mark.kwargs.get("always", ())):
                case.add_marker(pytest.mark.slow)


def _is_one_of(case: pytest.Function, names: Sequence[str]) -> bool:
    found = f"-{case.callspec.id}-"
    return any(f"-{name}-" in found for name in names)
