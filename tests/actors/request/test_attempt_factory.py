"""How many tokens a try may say: the client's word, the route's, the model's own, or what fits."""

import pytest

from actors.request.attempt_factory import output_tokens
from engine.core.limits import EngineLimits


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
    limits = EngineLimits(vocab_size=9, model_tokens=100, pool_tokens=1000, default_output_tokens=default)
    assert output_tokens(asked, cap, limits.max_model_len - 10, limits.default_output_tokens) == said
