"""From an upstream to a client's socket and back: what clients read of an answer that was made elsewhere."""

import json
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.endpoints.completions import CHAT
from gateway.errors import BadField
from tests.actors.fakes import says as engine_says
from tests.actors.upstream.dialects import delta, end, part, parts, sse, usage, whole
from tests.actors.upstream.network import HEAD, Asked
from tests.actors.upstream.test_upstream_actor import HI, stage
from tests.gateway.harness import Client, connected, events, gateway

ASK: dict[str, Any] = {"model": "cloud", "messages": [{"role": "user", "content": "Hi there"}]}
STREAM = {**ASK, "stream": True, "stream_options": {"include_usage": True}}


def speaks(spoken: bytes, kind: bytes = b"text/event-stream"):
    async def serve(asked: Asked) -> None:
        await asked.send(HEAD.replace(b"text/event-stream", kind))
        await asked.chunk(spoken)
        await asked.send(b"0\r\n\r\n")

    return serve


@asynccontextmanager
async def served(server, *, extra: str = "", scripts=None, **settings: Any):
    async with (
        stage(server, scripts, extra=extra) as (service, network),
        gateway(service.service, **settings) as running,
    ):
        yield await running.connect(), network, running


async def ask(client: Client, body: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The head, and the events of a stream (without [DONE]), or the whole body alone."""
    response = await client.request("/v1/chat/completions", body)
    assert response.status == 200, response.body
    if not body.get("stream"):
        return response.headers, [response.json]
    said = events(response.body)
    return response.headers, [each for each in said if each != "[DONE]"]


# --- refusals -------------------------------------------------------------------------------------------------------

REFUSES = speaks(sse(delta(None, refusal="I can"), delta(None, refusal="not."), end(), usage(7, 5)))


async def test_a_refusal_stays_one_in_a_stream() -> None:
    async with served(REFUSES) as (client, _, _):
        _, chunks = await ask(client, STREAM)
        deltas = [each["choices"][0]["delta"] for each in chunks if each["choices"]]
        assert "".join(each.get("refusal") or "" for each in deltas) == "I cannot."
        assert "".join(each.get("content") or "" for each in deltas) == ""


async def test_a_refusal_stays_one_in_a_whole_answer() -> None:
    async with served(REFUSES) as (client, _, _):
        _, (body,) = await ask(client, ASK)
        message = body["choices"][0]["message"]
        assert (message["content"], message["refusal"]) == (None, "I cannot.")
        assert body["choices"][0]["finish_reason"] == "stop"


# --- reasoning ------------------------------------------------------------------------------------------------------

THINKS = speaks(
    sse(
        delta(None, reasoning_content="Let me"), delta(None, reasoning_content=" see."), delta("42"), end(), usage(7, 5)
    )
)


async def test_reasoning_in_a_stream_goes_under_the_names_that_clients_know():
    async with served(THINKS) as (client, _, _):
        _, chunks = await ask(client, STREAM)
        deltas = [each["choices"][0]["delta"] for each in chunks if each["choices"]]
        for name in ("reasoning_content", "reasoning"):
            assert "".join(each.get(name) or "" for each in deltas) == "Let me see."
        assert "".join(each.get("content") or "" for each in deltas) == "42"
        assert all("content" not in each for each in deltas if "reasoning" in each)
        assert deltas[0]["role"] == "assistant"
        assert chunks[-1]["usage"]["completion_tokens"] == 5


async def test_reasoning_in_a_whole_answer():
    async with served(THINKS) as (client, _, _):
        _, [body] = await ask(client, ASK)
        message = body["choices"][0]["message"]
        assert (message["reasoning_content"], message["reasoning"]) == ("Let me see.", "Let me see.")
        assert (message["content"], body["usage"]["completion_tokens"]) == ("42", 5)


async def test_an_answer_without_reasoning_has_no_such_field():
    async with served(speaks(sse(delta("42"), end()))) as (client, _, _):
        _, [body] = await ask(client, ASK)
        assert {"reasoning", "reasoning_content"}.isdisjoint(body["choices"][0]["message"])


async def test_reasoning_before_a_call():
    spoken = sse(delta(None, reasoning="hm"), parts(part(0, "c", "now", "{}")), end("tool_calls"))
    tools = [{"type": "function", "function": {"name": "now"}}]
    async with served(speaks(spoken)) as (client, _, _):
        _, [body] = await ask(client, {**ASK, "tools": tools})
        message = body["choices"][0]["message"]
        assert (message["content"], message["reasoning"], len(message["tool_calls"])) == (None, "hm", 1)


async def test_a_text_completion_has_no_place_for_reasoning():
    async with served(THINKS) as (client, _, _):
        body = {"model": "cloud", "prompt": "x", "stream": True}
        response = await client.request("/v1/completions", body)
        chunks = [each for each in events(response.body) if each != "[DONE]"]
        assert "".join(each["choices"][0]["text"] for each in chunks) == "42"
        assert b"Let me" not in response.body


HISTORY = [
    ({"reasoning_content": "hm"}, "hm"),
    ({"reasoning": "hm"}, "hm"),
    ({"reasoning": "hm", "reasoning_content": "hm"}, "hm"),
    ({"reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "x"}]}, "hm"),
    (
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "42"},
            ]
        },
        "hm",
    ),
    ({"content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "42"}]}, "hm"),
    ({"reasoning_content": None, "reasoning": ""}, ""),
]


@pytest.mark.parametrize(("fields", "thought"), HISTORY, ids=str)
async def test_reasoning_in_a_history_goes_upstream_as_it_was_written_and_to_no_template_without_a_place(
    fields, thought
):
    said = {"role": "assistant", "content": "42", **fields}
    messages = [{"role": "user", "content": "Hi"}, said, {"role": "user", "content": " there"}]
    read = CHAT.decoder.decode(json.dumps({**ASK, "messages": messages}).encode())
    turn = CHAT.read(*read, 1).prompts[0].messages[1]
    assert (turn.reasoning, turn.content) == (thought, "42")
    async with served(speaks(sse(delta("a"), end())), scripts={"small": engine_says("b", prompt=HI + 2)}) as (
        client,
        network,
        _,
    ):
        await ask(client, {**ASK, "messages": messages})
        sent = network.asked[0].body["messages"][1]
        assert sent == {name: value for name, value in said.items() if value}
        _, [body] = await ask(client, {**ASK, "model": "small", "messages": messages})
        assert body["choices"][0]["message"]["content"] == "b"
        assert body["usage"]["prompt_tokens"] == HI + 2


@pytest.mark.parametrize("role", ["user", "system"])
def test_only_an_assistant_has_thought(role):
    message = {"role": role, "content": "x", "reasoning_content": "hm"}
    with pytest.raises(BadField, match="reasoning_content"):
        CHAT.read(*CHAT.decoder.decode(json.dumps({**ASK, "messages": [message]}).encode()), 1)


async def test_what_comes_with_a_call_goes_back_with_it():
    """Gemini refuses the next turn without the signature that came with its call; others know their own ids only."""
    extra = {"google": {"thought_signature": "abc"}}
    spoken = sse(parts(part(0, "D681PevKs", "now", "{}", extra_content=extra)), end("tool_calls"))
    tools = [{"type": "function", "function": {"name": "now"}}]
    async with served(speaks(spoken)) as (client, network, _):
        _, [body] = await ask(client, {**ASK, "tools": tools})
        message = body["choices"][0]["message"]
        assert [(each["id"], each["extra_content"]) for each in message["tool_calls"]] == [("D681PevKs", extra)]
        result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "noon"}
        await ask(client, {**ASK, "tools": tools, "messages": [*ASK["messages"], message, result]})
        said = network.asked[1].body["messages"][1]
        assert said["tool_calls"] == message["tool_calls"]


# --- finish reasons, forms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [ASK, STREAM], ids=["whole", "streamed"])
async def test_a_reason_that_nobody_knows_is_reported(body):
    async with served(speaks(sse(delta("42"), end("took_a_walk")))) as (client, _, _):
        _, chunks = await ask(client, body)
        assert [choice["finish_reason"] for each in chunks for choice in each["choices"]][-1] == "stop"
        assert chunks[-1]["penstock"]["upstream_finish"] == "took_a_walk"


@pytest.mark.parametrize("body", [ASK, STREAM], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("spoken", "kind"),
    [
        (sse(delta("42"), end("eos")), b"text/event-stream"),
        (sse(delta("42"), end(), done=False), b"text/event-stream"),
        (whole({"content": [{"type": "text", "text": "42"}]}, "eos"), b"application/json"),
    ],
)
async def test_an_answer_is_whole_for_its_client(spoken, kind, body):
    async with served(speaks(spoken, kind)) as (client, network, _):
        _, chunks = await ask(client, body)
        said = [choice.get("delta") or choice.get("message") or {} for each in chunks for choice in each["choices"]]
        assert "".join(each.get("content") or "" for each in said) == "42"
        assert len(network.asked) == 1
        assert chunks[-1]["usage"]["completion_tokens"] > 0
        assert chunks[-1]["penstock"]["upstream_finish"] is None


# --- who answered -----------------------------------------------------------------------------------------------------

NAMED = speaks(sse({**delta("42"), "model": "llama-3.1-405b"}, {**end(), "model": "llama-3.1-405b"}))
NAMELESS = speaks(sse(delta("42"), end()))


@pytest.mark.parametrize("body", [ASK, STREAM], ids=["whole", "streamed"])
@pytest.mark.parametrize("shown", ["asked", "served"])
@pytest.mark.parametrize(("server", "name"), [(NAMED, "llama-3.1-405b"), (NAMELESS, "llama"), ({}, "small")])
async def test_the_model_that_served_is_reported(server, name, shown, body):
    async with served(server, scripts={"small": engine_says("42", prompt=HI)}, answer_model=shown) as (client, _, _):
        headers, chunks = await ask(client, body)
        assert {each["model"] for each in chunks} == {"cloud" if shown == "asked" else name}
        assert (headers["x-penstock-model-asked"], headers["x-penstock-model-served"]) == ("cloud", name)
        assert (chunks[-1]["penstock"]["model_asked"], chunks[-1]["penstock"]["model_served"]) == ("cloud", name)


async def test_the_model_that_served_is_reported_on_a_socket():
    async with served(NAMED) as (_, _, running), connected(running) as socket:
        await socket.send({"type": "start", "id": "a", **ASK})
        messages = await socket.until("done")
        assert (messages[0]["model_asked"], messages[0]["model_served"]) == ("cloud", "llama-3.1-405b")
        assert messages[-1]["penstock"]["model_served"] == "llama-3.1-405b"


async def test_reasoning_on_a_socket():
    async with served(THINKS) as (_, _, running), connected(running) as socket:
        await socket.send({"type": "start", "id": "a", **ASK})
        messages = await socket.until("done")
        assert "".join(each.get("text", "") for each in messages) == "42"
        assert "".join(each.get("reasoning_content", "") for each in messages) == "Let me see."


# --- what is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 1.0},
        {"user": "ann", "metadata": {"team": "search"}, "store": False, "prompt_cache_key": "k"},
        {"reasoning_effort": "high", "verbosity": "low", "service_tier": "flex"},
        {"tools": [{"type": "function", "function": {"name": "now"}}]},
        {"max_tokens": 7},
    ],
    ids=str,
)
async def test_an_upstream_is_asked_what_its_client_asked(fields):
    async with served(speaks(sse(delta("42"), end()))) as (client, network, _):
        await ask(client, {**ASK, **fields})
        asked = network.asked[0].body
        assert asked == {
            **ASK,
            **fields,
            "model": "llama",
            "stream": True,
            "stream_options": {"include_usage": True},
        }


async def test_what_no_engine_obeys_is_refused_by_name_where_only_engines_answer():
    async with served({}) as (client, _, _):
        response = await client.request("/v1/chat/completions", {**ASK, "model": "small", "reasoning_effort": "high"})
        assert (response.status, response.error["code"], response.error["param"]) == (
            400,
            "unsupported_parameter",
            "reasoning_effort",
        )
