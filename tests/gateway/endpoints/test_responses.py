"""`/v1/responses` over a real socket, with scripted answers."""

from typing import Any

import pytest
import trio

from actors.api.errors import ErrorBody, Unavailable
from actors.api.response import Delta, Failed, Start
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
