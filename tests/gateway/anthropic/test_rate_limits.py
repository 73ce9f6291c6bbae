"""The `anthropic-ratelimit-…` headers."""

import pytest

from gateway.anthropic.rate_limits import message_limit_lines
from policies.admission.quota import RateLimits, WindowLimit
from tests.gateway.fakes import FakeService
from tests.gateway.harness import CHAT, gateway

REQUESTS, TOKENS = WindowLimit(20, 7, 0.2), WindowLimit(5000, 4000, 86_400.0)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (None, ""),
        (RateLimits(None, None), ""),
        (RateLimits(REQUESTS, None), "requests-limit: 20 requests-remaining: 7 requests-reset: 2023-11-14T22:13:21Z"),
        (RateLimits(None, TOKENS), "tokens-limit: 5000 tokens-remaining: 4000 tokens-reset: 2023-11-15T22:13:20Z"),
    ],
)
def test_lines(limits: RateLimits | None, expected: str) -> None:
    lines = message_limit_lines(limits, 1_700_000_000.0).decode()
    assert " ".join([line.removeprefix("anthropic-ratelimit-") for line in lines.splitlines()]) == expected


async def test_messages_have_both_kinds_and_chat_has_its_own() -> None:
    service = FakeService()
    service.limits = RateLimits(REQUESTS, TOKENS)
    async with gateway(service) as running:
        client = await running.connect()
        message = await client.request("/v1/messages", {**CHAT, "max_tokens": 5})
        chat = await client.request("/v1/chat/completions", CHAT)
        for answer in (message, chat):
            assert answer.headers["x-ratelimit-remaining-requests"] == "7"
        assert message.headers["anthropic-ratelimit-tokens-remaining"] == "4000"
        assert not any(name.startswith("anthropic") for name in chat.headers)
