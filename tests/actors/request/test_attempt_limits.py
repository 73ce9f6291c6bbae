"""How many tokens a try may say: the client's word, the route's, the model's own, or what fits."""

from types import SimpleNamespace
from typing import Any

import pytest

from actors.request.attempt import params_of
from engine.core.limits import EngineLimits
from engine.sampling.params import SamplingParams


@pytest.mark.parametrize(
    ("asked", "cap", "default", "said"),
    [
        (0, None, None, 90), (0, None, 25, 25), (0, None, 500, 90),
        (40, None, 25, 40), (0, 60, 25, 60), (30, 60, 25, 30),
    ],
)  # fmt: skip
def test_the_models_own_limit_holds_where_nobody_else_has_one(
    asked: int, cap: int | None, default: int | None, said: int
) -> None:
    request: Any = SimpleNamespace(body=SimpleNamespace(params=SamplingParams(max_tokens=asked)))
    plan: Any = SimpleNamespace(output_cap=cap)
    limits = EngineLimits(vocab_size=9, model_tokens=100, pool_tokens=1000, default_output_tokens=default)
    assert params_of(request, plan, 0, 10, limits).max_tokens == said
