"""Who asks, and in which conversation, as bodies say it."""

from typing import Any

import msgspec
import pytest

from tests.gateway.endpoints.test_ws_session import START, connected
from tests.gateway.fakes import FakeService
from tests.gateway.harness import CHAT, gateway


@pytest.mark.parametrize(
    ("fields", "user", "conversation", "cache_key"),
    [
        ({}, None, "", ""),
        ({"user": "u", "safety_identifier": "s"}, "u", "", ""),
        ({"safety_identifier": "s"}, "s", "", ""),
        ({"prompt_cache_key": "k"}, None, "", "k"),
        ({"metadata": {"conversation_id": "c", "session_id": "s"}}, None, "c", ""),
        ({"metadata": {"thread_id": "t"}}, None, "t", ""),
        ({"metadata": {"conversation": "", "chat_id": "x"}}, None, "x", ""),
        ({"metadata": {"color": "red"}}, None, "", ""),
        ({"metadata": None, "prompt_cache_key": None}, None, "", ""),
    ],
)
async def test_it_is_taken_from_where_clients_put_it(
    fields: dict[str, Any], user: str | None, conversation: str, cache_key: str
) -> None:
    service = FakeService()
    async with gateway(service) as running, connected(running) as socket:
        client = await running.connect()
        chat = msgspec.json.decode(CHAT) if isinstance(CHAT, bytes | str) else CHAT
        assert (await client.request("/v1/chat/completions", {**chat, **fields})).status == 200
        text = {"model": "m", "prompt": "x", **fields}
        assert (await client.request("/v1/completions", text)).status == 200
        await socket.send({**START, "id": "a", **fields})
        await socket.until("done")
    assert len(service.requests) == 3
    for body in [request.body for request in service.requests]:
        assert (body.user, body.conversation, body.cache_key) == (user, conversation, cache_key)
