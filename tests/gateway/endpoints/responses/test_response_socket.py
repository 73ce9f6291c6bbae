"""The WebSocket `/v1/responses`: the events of a stream, lanes, errors."""

from typing import Any, get_args

import pytest
import trio
from openai.types.responses.responses_server_event import ResponsesServerEvent

from actors.api.errors import Unavailable
from actors.api.response import Delta, Start
from tests.gateway.fakes import FakeService, answer
from tests.gateway.harness import Socket, connected, gateway

PATH = "/v1/responses"
CREATE: dict[str, Any] = {"type": "response.create", "model": "penstock", "input": "Hello?"}
MODELS = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(ResponsesServerEvent)[0])
}
ENDS = {"response.completed", "response.failed", "response.incomplete", "error"}


async def until_end(socket: Socket) -> list[Any]:
    """The events up to one that ends a response; each is what the official client's model demands."""
    found: list[Any] = []
    while not found or found[-1]["type"] not in ENDS:
        found.append(await socket.get())
        MODELS[found[-1]["type"]].model_validate(found[-1], strict=True)
    return found


async def test_a_response_in_events() -> None:
    async with gateway(FakeService()) as running, connected(running, path=PATH) as socket:
        await socket.send(CREATE)
        first = await until_end(socket)
        assert [each["sequence_number"] for each in first] == list(range(len(first)))
        assert (first[0]["type"], first[-1]["type"]) == ("response.created", "response.completed")
        assert all("stream_id" not in each for each in first)
        await socket.send({**CREATE, "previous_response_id": first[-1]["response"]["id"], "stream": True})
        second = await until_end(socket)
        assert second[-1]["response"]["previous_response_id"] == first[-1]["response"]["id"]
        stored = await (await running.connect()).get(f"{PATH}/{second[-1]['response']['id']}")
        assert stored.json == second[-1]["response"]


async def test_lanes_run_at_once_and_each_in_its_order() -> None:
    goes_on = trio.Event()

    def script(request: Any) -> Any:
        text = request.body.prompts[0].messages[-1].content
        steps = answer(text)
        return [goes_on.wait, *steps] if text == "slow" else steps

    async with gateway(service := FakeService(script)) as running, connected(running, path=PATH) as socket:
        for lane, text in (("a", "slow"), ("a", "after"), ("b", "quick")):
            await socket.send({**CREATE, "input": text, "stream_id": lane})
        quick = await until_end(socket)
        assert {each["stream_id"] for each in quick} == {"b"}
        assert len(service.requests) == 2
        goes_on.set()
        said = []
        for _ in range(2):
            ended = (await until_end(socket))[-1]
            said.append((ended["stream_id"], ended["response"]["output"][0]["content"][0]["text"]))
        assert said == [("a", "slow"), ("a", "after")]


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ({"type": "response.steer"}, "type", "unknown_type"),
        ({**CREATE, "stream": False}, "stream", "invalid_value"),
        ({**CREATE, "background": True}, "background", "unsupported_parameter"),
        ({**CREATE, "generate": False}, "generate", "unsupported_parameter"),
        ({**CREATE, "stream_id": ""}, "stream_id", "invalid_value"),
        ({**CREATE, "max_token": 1, "stream_id": "a"}, "max_token", "unknown_field"),
        ({**CREATE, "previous_response_id": "resp_0"}, "previous_response_id", "previous_response_not_found"),
    ],
)
async def test_what_is_wrong_is_named_and_the_rest_goes_on(message: Any, param: str, code: str) -> None:
    async with gateway(FakeService()) as running, connected(running, path=PATH) as socket:
        await socket.send(message)
        [error] = await until_end(socket)
        assert (error["status"], error["error"]["param"], error["error"]["code"]) == (400, param, code)
        assert error.get("stream_id") == (message.get("stream_id") or None)
        await socket.send(CREATE)
        assert (await until_end(socket))[-1]["type"] == "response.completed"


@pytest.mark.parametrize("end", [Unavailable("engine_failed", "It failed."), RuntimeError("a defect")])
async def test_failures(end: Exception) -> None:
    steps: list[Any] = [[Start("tests", "small", 5)], [Delta(0, "Hel", (1,))], end]
    async with gateway(service := FakeService(lambda _: steps)) as running, connected(running, path=PATH) as socket:
        await socket.send(CREATE)
        failed = (await until_end(socket))[-1]
        assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
        service.script = lambda _: [end]
        await socket.send(CREATE)
        [error] = await until_end(socket)
        assert error["type"] == "error"


async def test_a_connection_has_room_for_so_many() -> None:
    service = FakeService(lambda _: [trio.Event().wait])
    async with gateway(service, streams_per_socket=2) as running, connected(running, path=PATH) as socket:
        for _ in range(3):
            await socket.send({**CREATE, "stream_id": "a"})
        [error] = await until_end(socket)
        assert (error["status"], error["error"]["code"]) == (429, "too_many_streams")
