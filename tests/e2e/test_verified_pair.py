"""A sample of `make verified`: the embedded pair, real threads, the real clock."""

from typing import Any

import pytest

from benchmarks.verified.service import ask_all, embedded_service, prompts
from engine.sampling.grammar import Grammar

SCHEMA = Grammar(
    "json_schema", '{"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}'
)


@pytest.mark.parametrize(
    ("params", "share"),
    [({}, 0.4), ({"temperature": 0.8, "seed": 3}, 0.4), ({"temperature": 0.8, "seed": 3, "grammar": SCHEMA}, 0.05)],
)
async def test_verified_answers_are_the_large_models_own(params: dict[str, Any], share: float) -> None:
    questions = prompts(40, seed=12)
    async with embedded_service(cache=True) as service:
        alone = await ask_all(service, "large", questions, 4, **params)
        checked = await ask_all(service, "verified", questions, 4, **params)
    assert [answer.token_ids for answer in checked] == [answer.token_ids for answer in alone]
    assert {answer.served.rung for answer in checked} == {"large"}
    accepted = sum(answer.served.accepted_tokens for answer in checked)
    assert accepted > share * sum(len(answer.token_ids) for answer in checked)
