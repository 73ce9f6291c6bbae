"""One question through every API: the same text, reasoning and calls, the same usage, one row of the ledger each."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import pytest

from tests.actors.fakes import says
from tests.actors.fakes import stage as service_stage
from tests.actors.upstream.dialects import delta, end, part, parts, sse, usage
from tests.actors.upstream.test_upstream_actor import stage as upstream_stage
from tests.gateway.harness import Gateway, connected, gateway
from tests.gateway.openai.responses.test_completion import speaks


class Said(msgspec.Struct, frozen=True):
    """What a client reads, without the form."""

    text: str
    reasoning: str
    calls: tuple[tuple[str, Any], ...]
    refusal: str
    prompt_tokens: int
    completion_tokens: int


UPSTREAM = "cloud-only"
PARAMETERS = {"type": "object", "properties": {"zone": {"type": "string"}}}
TURNS = [{"role": "user", "content": "Hi there"}]
TOOL = {"name": "now", "description": "The time", "parameters": PARAMETERS}
CHAT = {"messages": TURNS, "tools": [{"type": "function", "function": TOOL}], "max_tokens": 9}
RESPONSE = {"input": TURNS, "tools": [{"type": "function", **TOOL}], "max_output_tokens": 9}
MESSAGE = {
    "messages": TURNS,
    "tools": [{"name": "now", "description": "The time", "input_schema": PARAMETERS}],
    "max_tokens": 9,
}


def body_for(model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The fake engine has no template for tools."""
    return {**{name: value for name, value in body.items() if name != "tools" or model == UPSTREAM}, "model": model}


def called(arguments: str) -> Any:
    return msgspec.json.decode(arguments)


async def ask(running: Gateway, path: str, body: Mapping[str, Any]) -> Any:
    client = await running.connect()
    response = await client.request(path, body)
    assert response.status == 200, response.body
    if not body.get("stream"):
        return response.json
    lines = [line.removeprefix(b"data: ") for line in response.body.splitlines() if line.startswith(b"data: ")]
    return [msgspec.json.decode(line) for line in lines if line != b"[DONE]"]


# --- chat -------------------------------------------------------------------------------------------------------------


async def chat(running: Gateway, model: str) -> Said:
    body = await ask(running, "/v1/chat/completions", body_for(model, CHAT))
    message, used = body["choices"][0]["message"], body["usage"]
    calls = [
        (each["function"]["name"], called(each["function"]["arguments"])) for each in message.get("tool_calls", ())
    ]
    return Said(
        message["content"] or "",
        message.get("reasoning_content", ""),
        tuple(calls),
        message["refusal"] or "",
        used["prompt_tokens"],
        used["completion_tokens"],
    )


async def chat_stream(running: Gateway, model: str) -> Said:
    asked = {**body_for(model, CHAT), "stream": True, "stream_options": {"include_usage": True}}
    chunks = await ask(running, "/v1/chat/completions", asked)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    calls = [each["function"] for delta in deltas for each in delta.get("tool_calls", ())]
    used = chunks[-1]["usage"]
    return Said(
        "".join(each.get("content") or "" for each in deltas),
        "".join(each.get("reasoning") or "" for each in deltas),
        tuple([(each["name"], called(each["arguments"])) for each in calls]),
        "".join(each.get("refusal") or "" for each in deltas),
        used["prompt_tokens"],
        used["completion_tokens"],
    )


# --- responses --------------------------------------------------------------------------------------------------------


def of_response(body: Mapping[str, Any]) -> Said:
    found: dict[str, list[str]] = {"output_text": [], "refusal": [], "reasoning_text": []}
    for item in body["output"]:
        for each in item.get("content") or ():
            found[each["type"]].append(each.get("text", "") + each.get("refusal", ""))
    calls = [each for each in body["output"] if each["type"] == "function_call"]
    return Said(
        "".join(found["output_text"]),
        "".join(found["reasoning_text"]),
        tuple([(each["name"], called(each["arguments"])) for each in calls]),
        "".join(found["refusal"]),
        body["usage"]["input_tokens"],
        body["usage"]["output_tokens"],
    )


async def response(running: Gateway, model: str) -> Said:
    return of_response(await ask(running, "/v1/responses", body_for(model, RESPONSE)))


async def response_stream(running: Gateway, model: str) -> Said:
    found = await ask(running, "/v1/responses", {**body_for(model, RESPONSE), "stream": True})
    return of_response(found[-1]["response"])


async def response_socket(running: Gateway, model: str) -> Said:
    async with connected(running, path="/v1/responses") as socket:
        await socket.send({**body_for(model, RESPONSE), "type": "response.create"})
        return of_response((await socket.until("response.completed"))[-1]["response"])


# --- messages ---------------------------------------------------------------------------------------------------------


def of_blocks(blocks: list[Any], refused: bool, used: Mapping[str, int]) -> Said:
    text = "".join(each["text"] for each in blocks if each["type"] == "text")
    calls = [(each["name"], each["input"]) for each in blocks if each["type"] == "tool_use"]
    return Said(
        "" if refused else text,
        "".join(each["thinking"] for each in blocks if each["type"] == "thinking"),
        tuple(calls),
        text if refused else "",
        used["input_tokens"] + used["cache_read_input_tokens"],
        used["output_tokens"],
    )


async def message(running: Gateway, model: str) -> Said:
    body = await ask(running, "/v1/messages", body_for(model, MESSAGE))
    return of_blocks(body["content"], body["stop_reason"] == "refusal", body["usage"])


async def message_stream(running: Gateway, model: str) -> Said:
    blocks: list[Any] = []
    found = await ask(running, "/v1/messages", {**body_for(model, MESSAGE), "stream": True})
    for event in found:
        match event:
            case {"type": "content_block_start", "content_block": block}:
                blocks.append({**block, "json": ""})
            case {"delta": {"type": "text_delta", "text": text}}:
                blocks[-1]["text"] += text
            case {"delta": {"type": "thinking_delta", "thinking": text}}:
                blocks[-1]["thinking"] += text
            case {"delta": {"type": "input_json_delta", "partial_json": text}}:
                blocks[-1]["input"] = called(text)
    last = found[-2]
    return of_blocks(blocks, last["delta"]["stop_reason"] == "refusal", last["usage"])


# --- /v1/stream -------------------------------------------------------------------------------------------------------


async def stream_socket(running: Gateway, model: str) -> Said:
    async with connected(running) as socket:
        await socket.send({**body_for(model, CHAT), "type": "start", "id": "one"})
        found = await socket.until("done")
    tokens = [each for each in found if each["type"] == "token"]
    calls = [each["function"] for token in tokens for each in token.get("tool_calls", ())]
    used = next(each for each in found if each["type"] == "usage")
    return Said(
        "".join(each["text"] for each in tokens if not each.get("refuses")),
        "".join(each.get("reasoning_content", "") for each in tokens),
        tuple([(each["name"], called(each["arguments"])) for each in calls]),
        "".join(each["text"] for each in tokens if each.get("refuses")),
        used["prompt_tokens"],
        used["completion_tokens"],
    )


APIS: dict[str, Callable[[Gateway, str], Awaitable[Said]]] = {
    "chat": chat,
    "chat, streamed": chat_stream,
    "responses": response,
    "responses, streamed": response_stream,
    "responses, WebSocket": response_socket,
    "messages": message,
    "messages, streamed": message_stream,
    "/v1/stream": stream_socket,
}


async def all_say(running: Gateway, model: str) -> dict[str, Said]:
    return {name: await api(running, model) for name, api in APIS.items()}


def check_rows(rows: Mapping[str, Mapping[str, Any]], said: Said) -> None:
    """One each, and all with the same figures."""
    assert len(rows) == len(APIS)
    counts = {(row["prompt_tokens"], row["completion_tokens"], row["outcome"]) for row in rows.values()}
    assert counts == {(said.prompt_tokens, said.completion_tokens, "ok")}


async def test_an_engine_answers() -> None:
    async with service_stage({"small": says("okay then", prompt=5)}) as service:
        async with gateway(service.service) as running:
            said = await all_say(running, "small")
        expected = said["chat"]
        assert expected.text == "okay then"
        assert said == dict.fromkeys(APIS, expected)
        await service.service.write_ledger(1)
        check_rows(service.rows(), expected)


SPOKEN = {
    "text": ([delta("Hel"), delta("lo"), end()], Said("Hello", "", (), "", 7, 5)),
    "reasoning": ([delta(None, reasoning_content="hm"), delta("Hi"), end()], Said("Hi", "hm", (), "", 7, 5)),
    "a call": (
        [delta("See: "), parts(part(0, "c", "now", '{"zone": "UTC"}')), end("tool_calls")],
        Said("See: ", "", (("now", {"zone": "UTC"}),), "", 7, 5),
    ),
    "a refusal": (
        [delta(None, refusal="I can"), delta(None, refusal="not."), end()],
        Said("", "", (), "I cannot.", 7, 5),
    ),
}


@pytest.mark.parametrize("name", SPOKEN)
async def test_an_upstream_answers(name: str) -> None:
    spoken, expected = SPOKEN[name]
    async with upstream_stage(speaks(sse(*spoken, usage(7, 5)))) as (service, _):
        async with gateway(service.service) as running:
            said = await all_say(running, UPSTREAM)
        assert said == dict.fromkeys(APIS, expected)
        await service.service.write_ledger(1)
        check_rows(service.rows(), expected)
