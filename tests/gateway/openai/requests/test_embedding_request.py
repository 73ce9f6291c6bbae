"""`POST /v1/embeddings` on the wire, before a scripted service."""

import base64
import struct
from typing import Any

import pytest
import trio

from actors.api.errors import InvalidRequest
from actors.api.request import InferenceRequest, TextPrompt, TokenPrompt
from actors.api.response import Delta, Done, Start, Usage
from tests.gateway.fakes import SERVED, FakeService, Step
from tests.gateway.harness import gateway

ASK = {"model": "mini", "input": "Hello?"}


def numbers(index: int) -> list[float]:
    return [index + 0.5, -0.1, 1e-8]


def embedding(index: int) -> bytes:
    return struct.pack("<3f", *numbers(index))


def script(request: InferenceRequest) -> list[Step]:
    """Inputs end in another order than they came."""
    count = len(request.body.prompts)
    deltas = [Delta(index, "", (), (), "stop", embedding=embedding(index)) for index in range(count)]
    return [[Start("tests", "mini", 5)], *[[each] for each in reversed(deltas)], [Done(Usage(7, 0), SERVED)]]


async def test_a_whole_answer() -> None:
    service = FakeService(script)
    async with gateway(service) as running:
        client = await running.connect()
        answer = await client.request("/v1/embeddings", {**ASK, "input": ["a", "b", "c"], "user": "eve"})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json
    assert (body["object"], body["model"]) == ("list", "mini")
    assert body["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert [(each["object"], each["index"]) for each in body["data"]] == [("embedding", index) for index in range(3)]
    for index, each in enumerate(body["data"]):
        assert struct.pack("<3f", *each["embedding"]) == embedding(index)
    assert body["penstock"]["rung"] == answer.headers["x-penstock-rung"] == "small"
    for name in ("x-request-id", "x-penstock-policy", "x-penstock-route", "x-penstock-why"):
        assert answer.headers[name]
    (request,) = service.requests
    body = request.body
    assert (body.streamed, body.n, body.user, request.credentials.path) == (False, 1, "eve", "/v1/embeddings")
    assert service.open_responses == 0


async def test_base64_is_the_same_numbers() -> None:
    async with gateway(FakeService(script)) as running:
        client = await running.connect()
        answer = await client.request("/v1/embeddings", {**ASK, "encoding_format": "base64"})
    (data,) = answer.json["data"]
    assert base64.b64decode(data["embedding"]) == embedding(0)


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("Hello?", (TextPrompt("Hello?"),)),
        (["a", "b"], (TextPrompt("a"), TextPrompt("b"))),
        ([1, 2, 3], (TokenPrompt((1, 2, 3)),)),
        ([[1, 2], [3]], (TokenPrompt((1, 2)), TokenPrompt((3,)))),
    ],
)
async def test_inputs_of_every_kind(given: Any, prompts: Any) -> None:
    service = FakeService(script)
    async with gateway(service) as running:
        client = await running.connect()
        answer = await client.request("/v1/embeddings", {**ASK, "input": given, "dimensions": 12})
    assert len(answer.json["data"]) == len(prompts)
    (request,) = service.requests
    assert request.body.prompts == prompts
    assert request.body.embedding is not None
    assert request.body.embedding.size == 12


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", ""]}, "input[1]", "invalid_value"),
        ({"input": ["a", 1]}, "input", "invalid_type"),
        ({"input": [[1], []]}, "input[1]", "invalid_value"),
        ({"input": [-1]}, "input", "invalid_value"),
        ({"input": {"text": "a"}}, "input", "invalid_type"),
        ({"input": ["a"] * 5}, "input", "invalid_value"),
        ({"encoding_format": "hex"}, "encoding_format", "invalid_type"),
        ({"dimensions": 0}, "dimensions", "invalid_value"),
        ({"dimensions": "8"}, "dimensions", "invalid_type"),
        ({"dimension": 8}, "dimension", "unknown_field"),
        ({"stream": True}, "stream", "unknown_field"),
    ],
)
async def test_what_cannot_be_asked_is_named(changes: dict[str, Any], param: str, code: str) -> None:
    service = FakeService(script)
    async with gateway(service, max_inputs=4) as running:
        client = await running.connect()
        answer = await client.request("/v1/embeddings", {**ASK, **changes})
        assert (answer.status, answer.error["param"], answer.error["code"]) == (400, param, code)
        # The connection goes on.
        assert (await client.request("/v1/embeddings", ASK)).status == 200
    assert len(service.requests) == 1


async def test_a_refusal_of_the_service_keeps_its_words() -> None:
    def refuse(request: InferenceRequest) -> list[Step]:
        raise InvalidRequest("It makes text.", param="model", code="model_makes_text")

    async with gateway(FakeService(refuse)) as running:
        client = await running.connect()
        answer = await client.request("/v1/embeddings", ASK)
        assert (answer.status, answer.error["code"]) == (400, "model_makes_text")
        assert answer.headers["x-should-retry"] == "false"
        wrong = await client.get("/v1/embeddings")
        assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


async def test_a_client_that_leaves_closes_its_exchange() -> None:
    service = FakeService(lambda _: [[Start("tests", "mini", 5)], trio.sleep_forever])
    async with gateway(service) as running:
        client = await running.connect()
        await client.post("/v1/embeddings", ASK)
        await service.opened.wait()
        await client.aclose()
        await service.responses[0].closed.wait()
    assert service.open_responses == 0


async def test_many_numbers_are_written_whole() -> None:
    async def ask(client: Any, count: int, encoding: str) -> Any:
        body = {"model": "mini", "input": [f"text {index}" for index in range(count)], "encoding_format": encoding}
        return (await client.request("/v1/embeddings", body)).json["data"]

    def large(request: InferenceRequest) -> list[Step]:
        deltas = [
            Delta(index, "", (), (), "stop", embedding=struct.pack("<400f", *([index / 7] * 400)))
            for index in range(len(request.body.prompts))
        ]
        return [deltas, [Done(Usage(7, 0), SERVED)]]

    async with gateway(FakeService(large)) as running:
        client = await running.connect()
        floats = await ask(client, 200, "float")
        packed = await ask(client, 200, "base64")
    assert len(floats) == 200
    for one, other in zip(floats, packed, strict=True):
        assert struct.pack("<400f", *one["embedding"]) == base64.b64decode(other["embedding"])
