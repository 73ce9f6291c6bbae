"""`/v1/conversations` over a real socket."""

from typing import Any

import pytest
from openai.types.conversations import Conversation, ConversationItemList

from tests.gateway.endpoints.responses.test_responses import ASK, ask, remove
from tests.gateway.fakes import FakeService
from tests.gateway.harness import gateway, until

PATH = "/v1/conversations"
MINE, YOURS = "Authorization: Bearer mine\r\n", "Authorization: Bearer yours\r\n"
HI = {"type": "message", "role": "user", "content": "Hi"}


async def test_a_conversation_is_its_tenant_s() -> None:
    async with gateway(service := FakeService()) as running:
        client = await running.connect()
        made = (await ask(running, {"items": [HI], "metadata": {"a": "b"}}, PATH, MINE)).json
        Conversation.model_validate(made, strict=True)
        path = f"{PATH}/{made['id']}"
        assert (await client.get(path, headers=MINE)).json == made
        items = (await client.get(f"{path}/items", headers=MINE)).json
        ConversationItemList.model_validate(items, strict=True)
        item = f"{path}/items/{items['data'][0]['id']}"
        assert (await client.get(item, headers=MINE)).json == items["data"][0]
        for answer in (
            await client.get(path, headers=YOURS),
            await client.get(f"{path}/items", headers=YOURS),
            await client.get(item, headers=YOURS),
            await client.request(path, {"metadata": {}}, headers=YOURS),
            await client.request(f"{path}/items", {"items": [HI]}, headers=YOURS),
            await remove(running, item, YOURS),
            await remove(running, path, YOURS),
            await ask(running, {**ASK, "conversation": made["id"]}, headers=YOURS),
        ):
            assert (answer.status, answer.error["code"]) == (404, "conversation_not_found")
        assert len(service.requests) == 0
        assert (await remove(running, item, MINE)).json == made
        assert (await client.get(item, headers=MINE)).error["code"] == "item_not_found"
        assert (await remove(running, path, MINE)).json["deleted"] is True


async def test_a_response_makes_it_grow() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        made = (await client.request(PATH, b"")).json
        for number in (1, 2):
            await ask(running, {**ASK, "conversation": made["id"], "stream": number == 2})
            items = (await client.get(f"{PATH}/{made['id']}/items?order=asc")).json["data"]
            assert [item["role"] for item in items] == ["user", "assistant"] * number


@pytest.mark.parametrize("headers", ["", "Idempotency-Key: k\r\n", "x-penstock-resumable: true\r\n"])
@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"background": True}])
async def test_it_grows_once_however_often_the_answer_is_read(headers: str, fields: dict[str, Any]) -> None:
    async with gateway(service := FakeService()) as running:
        client = await running.connect()
        made = (await client.request(PATH, b"")).json
        asked = {**ASK, **fields, "conversation": made["id"]}
        await ask(running, asked, headers=headers)
        await until(lambda: bool(service.responses) and service.open_responses == 0)
        response_id = f"resp_{service.requests[0].request_id}"
        for query in ("", "?stream=true"):
            await client.get(f"/v1/responses/{response_id}{query}")
        if headers.startswith("Idempotency"):
            await ask(running, asked, headers=headers)
        assert len(service.requests) == 1
        items = (await client.get(f"{PATH}/{made['id']}/items?order=asc")).json["data"]
        assert len(items) == 2


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (PATH, {"metadata": {"a": 1}}, "metadata"),
        (PATH, {"metadata": []}, "metadata"),
        (PATH, {"metadata": False}, "metadata"),
        (PATH, {"items": [{"type": "web_search_call"}]}, "items[0].type"),
        (PATH, {"items": [HI] * 21}, "items"),
        (PATH, {"name": "x"}, "name"),
        ("items", {}, "items"),
    ],
)
async def test_what_is_wrong_is_named(path: str, body: Any, param: str) -> None:
    async with gateway(FakeService()) as running:
        made = (await ask(running, {}, PATH)).json
        refused = await ask(running, body, path if path == PATH else f"{PATH}/{made['id']}/{path}")
        assert (refused.status, refused.error["param"]) == (400, param)


async def test_without_a_store_there_are_none() -> None:
    service = FakeService()
    service.stored.keeps = False
    async with gateway(service) as running:
        assert (await ask(running, {}, PATH)).error["code"] == "not_supported"


@pytest.mark.parametrize(
    ("method", "below", "status"),
    [("GET", "", 405), ("GET", "/", 405), ("PUT", "/c", 405), ("DELETE", "/c/items", 405), ("GET", "/c/other", 404)],
)
async def test_addresses_that_are_none(method: str, below: str, status: int) -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        await client.send(f"{method} {PATH}{below} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        assert (await client.response()).status == status
