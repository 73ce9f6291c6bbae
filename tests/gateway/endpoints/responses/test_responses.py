"""`/v1/responses` over a real socket, with scripted answers."""

from typing import Any

import pytest
import trio
from openai.types.responses import ResponseInputMessageItem

from actors.api.errors import ErrorBody, Unavailable
from actors.api.request import ChatPrompt
from actors.api.response import Delta, Failed, Start
from actors.kept.kept_answers import KeptAnswers
from tests.gateway.fakes import USAGE, FakeService, answer
from tests.gateway.harness import Gateway, Response, gateway, until
from tests.gateway.responses_api.test_event_renderer import stream

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "penstock", "input": "Hello?"}
STREAM = {**ASK, "stream": True}
FAILURE = ErrorBody(503, "server_error", "engine_failed", "The engine failed.", should_retry=True)


async def ask(running: Gateway, body: Any, path: str = PATH, headers: str = "") -> Response:
    return await (await running.connect()).request(path, body, headers=headers)


async def test_a_whole_response() -> None:
    async with gateway(service := FakeService()) as running:
        response = await ask(running, ASK)
        body = response.json
        assert (response.status, body["id"]) == (200, "resp_" + response.headers["x-request-id"])
        assert body["output"][0]["content"][0]["text"] == "Hello"
        for name, value in (("route", "tests"), ("rung", "small"), ("why", "confident"), ("policy", "test")):
            assert response.headers[f"x-penstock-{name}"] == value
        assert service.open_responses == 0


async def test_a_streamed_response() -> None:
    async with gateway(FakeService()) as running:
        response = await ask(running, STREAM)
        found = stream(response.body)
        assert (response.status, response.headers["x-penstock-rung"]) == (200, "small")
        assert (found[0]["type"], found[-1]["type"]) == ("response.created", "response.completed")
        assert found[0]["response"]["id"] == "resp_" + response.headers["x-request-id"]
        assert b"[DONE]" not in response.body


@pytest.mark.parametrize(
    "end", [[Failed(FAILURE, USAGE)], Unavailable("engine_failed", "The engine failed."), RuntimeError("a defect")]
)
async def test_a_failure_after_the_beginning(end: Any) -> None:
    steps = [[Start("tests", "small", 5)], [Delta(0, "Hel", (1,))], end]
    async with gateway(FakeService(lambda _: steps)) as running:
        last = stream((await ask(running, STREAM)).body)[-1]
        assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
        assert last["response"]["error"]["code"] == "server_error"
        assert last["response"]["output"][0]["content"][0]["text"] == "Hel"


@pytest.mark.parametrize("body", [ASK, STREAM])
async def test_a_failure_before_the_beginning_has_its_status(body: Any) -> None:
    async with gateway(FakeService(lambda _: [Unavailable("engine_failed", "It failed.")])) as running:
        response = await ask(running, body)
        assert (response.status, response.error["code"]) == (503, "engine_failed")


async def test_a_failure_after_a_heartbeat_is_an_event() -> None:
    fails = trio.Event()
    steps = [fails.wait, Unavailable("engine_failed", "It failed.")]
    async with gateway(FakeService(lambda _: steps), heartbeat=0.01) as running:
        client = await running.connect()
        await client.post(PATH, STREAM)
        await client.head()
        assert (await client.chunk()).startswith(b": ping")
        fails.set()
        rest = b"".join([chunk async for chunk in client.chunks()])
        [error] = stream(rest.replace(b": ping\n\n", b""))
        assert (error["type"], error["code"]) == ("error", "engine_failed")


async def test_a_resumable_stream_is_read_on() -> None:
    async with gateway(FakeService(lambda _: answer("Hel", "lo"))) as running:
        whole = await ask(running, STREAM, headers="x-penstock-resumable: true\r\n")
        client = await running.connect()
        rest = await client.get(f"/v1/streams/{whole.headers['x-penstock-stream']}?after=5")
        assert rest.body == b"".join([b"id: " + each for each in whole.body.split(b"id: ")[6:]])
        again = await ask(running, ASK, headers="Idempotency-Key: k\r\n")
        assert (await ask(running, ASK, headers="Idempotency-Key: k\r\n")).body == again.body


async def test_a_client_that_leaves_ends_the_answer() -> None:
    waits = trio.Event()
    async with gateway(service := FakeService(lambda _: [*answer("a")[:2], waits.wait])) as running:
        client = await running.connect()
        await client.post(PATH, STREAM)
        await client.head()
        await client.chunk()
        await client.aclose()
        await until(lambda: service.open_responses == 0)


async def test_a_response_is_stored_and_continued() -> None:
    async with gateway(service := FakeService()) as running:
        first = (await ask(running, {**ASK, "instructions": "Be brief."})).json
        client = await running.connect()
        assert (await client.get(f"{PATH}/{first['id']}")).json == first
        streamed = stream((await ask(running, {**STREAM, "previous_response_id": first["id"]})).body)[-1]["response"]
        assert (await client.get(f"{PATH}/{streamed['id']}")).json == streamed
        asked = {**ASK, "input": "And?", "previous_response_id": streamed["id"], "instructions": "Be kind."}
        third = (await ask(running, asked)).json
        assert third["previous_response_id"] == streamed["id"]
        prompt = service.requests[-1].body.prompts[0]
        assert isinstance(prompt, ChatPrompt)
        assert [(message.role, message.content) for message in prompt.messages] == [
            ("system", "Be kind."),
            ("user", "Hello?"),
            ("assistant", "Hello"),
            ("user", "Hello?"),
            ("assistant", "Hello"),
            ("user", "And?"),
        ]
        deleted = await remove(running, f"{PATH}/{first['id']}")
        assert deleted.json == {"id": first["id"], "object": "response", "deleted": True}
        for _ in range(2):
            assert (await client.get(f"{PATH}/{first['id']}")).error["code"] == "response_not_found"
            assert (await remove(running, f"{PATH}/{first['id']}")).status == 404
        # What was deleted is said to no model.
        lost = await ask(running, {**asked, "previous_response_id": third["id"]})
        assert (lost.status, lost.error["code"]) == (400, "previous_response_not_found")


async def remove(running: Gateway, path: str, headers: str = "") -> Response:
    client = await running.connect()
    await client.send(f"DELETE {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
    return await client.response()


async def test_what_is_not_stored_is_not_found() -> None:
    async with gateway(FakeService()) as running:
        body = (await ask(running, {**ASK, "store": False})).json
        assert body["store"] is False
        client = await running.connect()
        for path in (f"{PATH}/{body['id']}", f"{PATH}/{body['id']}/input_items", f"{PATH}/resp_x?stream=true"):
            assert (await client.get(path)).status in {400, 404}
        refused = await ask(running, {**ASK, "previous_response_id": body["id"]})
        assert (refused.error["param"], refused.error["code"]) == (
            "previous_response_id",
            "previous_response_not_found",
        )


async def test_input_items_come_in_pages() -> None:
    async with gateway(FakeService()) as running:
        items = [{"role": "user", "content": f"{number}"} for number in range(5)]
        body = (await ask(running, {**ASK, "input": items})).json
        client = await running.connect()
        path = f"{PATH}/{body['id']}/input_items"
        whole = (await client.get(f"{path}?order=asc")).json
        assert [item["content"][0]["text"] for item in whole["data"]] == ["0", "1", "2", "3", "4"]
        for item in whole["data"]:
            ResponseInputMessageItem.model_validate(item, strict=True)
        first = (await client.get(f"{path}?limit=3")).json
        assert ([item["content"][0]["text"] for item in first["data"]], first["has_more"]) == (["4", "3", "2"], True)
        rest = (await client.get(f"{path}?limit=3&after={first['last_id']}")).json
        assert ([item["content"][0]["text"] for item in rest["data"]], rest["has_more"]) == (["1", "0"], False)
        huge = f"limit={'9' * 5000}"
        for query, param in (("limit=0", "limit"), (huge, "limit"), ("order=up", "order"), ("after=x", "after")):
            assert (await client.get(f"{path}?{query}")).error["param"] == param


async def test_another_tenant_finds_nothing() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        mine, yours = "Authorization: Bearer mine\r\n", "Authorization: Bearer yours\r\n"
        body = (await ask(running, ASK, headers=mine)).json
        background = (await ask(running, {**ASK, "background": True}, headers=mine)).json
        for response_id in (body["id"], background["id"]):
            path = f"{PATH}/{response_id}"
            assert (await client.get(path, headers=mine)).status == 200
            for address in (path, f"{path}/input_items"):
                assert (await client.get(address, headers=yours)).error["code"] == "response_not_found"
            assert (await client.request(f"{path}/cancel", b"", headers=yours)).status == 404
            assert (await remove(running, path, yours)).status == 404
            refused = await ask(running, {**ASK, "previous_response_id": response_id}, headers=yours)
            assert refused.error["code"] == "previous_response_not_found"
            assert (await client.get(path, headers=mine)).status == 200


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_response_in_the_background(streamed: bool) -> None:
    goes_on, steps = trio.Event(), answer("Hel", "lo")
    steps.insert(2, goes_on.wait)
    async with gateway(service := FakeService(lambda _: steps)) as running:
        client = await running.connect()
        asked = {**ASK, "background": True, "stream": streamed}
        if streamed:
            await client.post(PATH, asked)
            await client.head()
            seen = b""
            while b'"Hel"' not in seen:
                seen += await client.chunk()
            await client.aclose()
            last = int(seen.rpartition(b'"sequence_number":')[2].partition(b"}")[0])
            response_id = "resp_" + service.requests[0].request_id
        else:
            begun = await client.request(PATH, asked)
            assert (begun.status, begun.json["status"], begun.json["background"]) == (200, "queued", True)
            response_id, last = begun.json["id"], 4
        other = await running.connect()
        path = f"{PATH}/{response_id}"
        await service.opened.wait()
        goes_on.set()
        rest = await other.get(f"{path}?stream=true&starting_after={last}")
        numbers = [int(each.partition(b"}\n")[0]) for each in rest.body.split(b'"sequence_number":')[1:]]
        assert numbers[0] == last + 1
        whole = stream((await other.get(f"{path}?stream=true")).body)
        assert [each["sequence_number"] for each in whole][last + 1 :] == numbers
        ended = (await other.get(path)).json
        assert (ended["status"], ended["output"][0]["content"][0]["text"]) == ("completed", "Hello")
        assert ended == whole[-1]["response"]
        assert len(service.requests) == 1
        # It is stored, too: it outlives the kept answer, and may be continued.
        service.kept.end(service.kept.look(service.requests[0].request_id, "tests"))
        assert (await other.get(path)).json == ended
        assert (await ask(running, {**ASK, "previous_response_id": response_id})).status == 200
        for query, param in (
            ("stream=true", "stream"),
            ("stream=yes", "stream"),
            ("starting_after=3", "starting_after"),
        ):
            assert (await other.get(f"{path}?{query}")).error["param"] == param


async def test_a_background_response_that_is_not_read_is_stored() -> None:
    async with gateway(service := FakeService()) as running:
        client = await running.connect()
        begun = (await client.request(PATH, {**ASK, "background": True})).json
        path = f"{PATH}/{begun['id']}"
        kept = service.kept.look(begun["id"].removeprefix("resp_"), "tests")
        await until(lambda: kept.ended)
        service.kept.end(kept)
        ended = (await client.get(path)).json
        assert (ended["status"], ended["output"][0]["content"][0]["text"]) == ("completed", "Hello")


@pytest.mark.parametrize("headers", ["Idempotency-Key: k\r\n", "x-penstock-resumable: true\r\n"])
async def test_a_response_that_is_too_long_to_be_kept_is_stored_once(headers: str) -> None:
    service = FakeService(lambda _: answer(*"It is long."))
    service.kept = KeptAnswers(service.open, keep_s=60.0, memory_bytes=1 << 14, wall=service.wall)
    async with gateway(service) as running:
        client = await running.connect()
        conversation = (await client.request("/v1/conversations", b"")).json["id"]
        asked = {**STREAM, "conversation": conversation}
        response = stream((await ask(running, asked, headers=headers)).body)[-1]["response"]
        assert len(service.kept) == 0
        stored = (await client.get(f"{PATH}/{response['id']}")).json
        assert stored == response
        items = (await client.get(f"/v1/conversations/{conversation}/items")).json["data"]
        assert [item["role"] for item in items] == ["assistant", "user"]


async def test_a_response_that_ends_while_it_is_deleted_is_gone() -> None:
    ends = trio.Event()
    steps = answer("Hello")
    steps.insert(2, ends.wait)
    service = FakeService(lambda _: steps)
    async with gateway(service) as running:
        client = await running.connect()
        begun = (await client.request(PATH, {**ASK, "background": True})).json
        kept, asks = service.kept.look(begun["id"].removeprefix("resp_"), "tests"), service.stored.ask

        async def ask_slowly(query: Any) -> Any:
            found = await asks(query)
            ends.set()
            await until(lambda: kept.ended)
            return found

        service.stored.ask = ask_slowly
        path = f"{PATH}/{begun['id']}"
        assert (await remove(running, path)).json["deleted"]
        service.stored.ask = asks
        assert (await client.get(path)).status == 404


async def test_a_background_response_is_cancelled() -> None:
    steps = [*answer("Hel")[:2], trio.Event().wait]
    async with gateway(service := FakeService(lambda _: steps)) as running:
        client = await running.connect()
        begun = (await client.request(PATH, {**ASK, "background": True})).json
        path = f"{PATH}/{begun['id']}"
        while (await client.get(path)).json["output"] == []:
            pass
        running_still = (await client.get(path)).json
        assert (running_still["status"], running_still["output"][0]["status"]) == ("in_progress", "in_progress")
        cancelled = await client.request(f"{path}/cancel", b"")
        assert (cancelled.status, cancelled.json["status"]) == (200, "cancelled")
        assert cancelled.json["output"][0]["content"][0]["text"] == "Hel"
        await until(lambda: service.open_responses == 0)
        assert (await client.get(path)).json == cancelled.json
        assert (await client.request(f"{path}/cancel", b"")).json == cancelled.json


async def test_only_the_background_is_cancelled() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        body = (await client.request(PATH, ASK)).json
        refused = await client.request(f"{PATH}/{body['id']}/cancel", b"")
        assert (refused.status, refused.error["param"]) == (400, "response_id")


async def test_a_failed_background_response_says_why() -> None:
    async with gateway(service := FakeService(lambda _: [Unavailable("engine_failed", "It failed.")])) as running:
        client = await running.connect()
        begun = (await client.request(PATH, {**ASK, "background": True})).json
        path = f"{PATH}/{begun['id']}"
        await until(lambda: bool(service.responses) and service.open_responses == 0)
        found = (await client.get(path)).json
        assert (found["status"], found["error"]["reason"]) == ("failed", "engine_failed")


async def test_without_a_store_only_the_whole_input_will_do() -> None:
    service = FakeService()
    service.stored.keeps = False
    async with gateway(service) as running:
        body = (await ask(running, ASK)).json
        assert body["store"] is False
        client = await running.connect()
        assert (await client.get(f"{PATH}/{body['id']}")).status == 404
        refused = await ask(running, {**ASK, "previous_response_id": body["id"]})
        assert (refused.status, refused.error["code"]) == (400, "unsupported_parameter")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/v1/responses", 405),
        ("GET", "/v1/responses/", 426),
        ("POST", "/v1/responses/resp_1", 405),
        ("GET", "/v1/responses/resp_1/cancel", 405),
        ("GET", "/v1/responses/resp_1/output", 404),
        ("GET", "/v1/responses//input_items", 404),
    ],
)
async def test_addresses_that_are_none(method: str, path: str, status: int) -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        await client.send(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        assert (await client.response()).status == status
