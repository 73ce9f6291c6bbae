"""A model's refusal, which only some upstreams tell apart from an answer, is written as the document has it."""

from typing import Any

import pytest

from tests.gateway.openai.responses.test_completion import REFUSES, served
from tests.gateway.openapi.checks import check_answer

HI = [{"role": "user", "content": "Hi there"}]
ASKS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/responses": {"input": HI},
    "/v1/messages": {"messages": HI, "max_tokens": 16},
}
"""By path."""


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", ASKS)
async def test_a_refusal_is_as_it_is_described(path: str, streamed: bool) -> None:
    async with served(REFUSES) as (client, _, _):
        answer = await client.request(path, {"model": "cloud", "stream": streamed, **ASKS[path]})
        assert answer.status == 200, answer.body
        assert b"refusal" in answer.body
        check_answer("POST", path, 200, answer.headers["content-type"], answer.headers, answer.body)
