"""What upstreams and clients say to each other beyond the API: of answers in every API, and of requests."""

import json
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from config.check.api_fields import API_FIELDS
from gateway.endpoints.completions import CHAT as CHAT_ENDPOINT
from gateway.endpoints.completions import COMPLETION as COMPLETION_ENDPOINT
from gateway.openai.requests.chat_request import ANSWERED
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.ws_messages import StartChat, StartCompletion
from tests.actors.fakes import says
from tests.actors.upstream.dialects import delta, end, part, parts, sse, usage, whole
from tests.actors.upstream.network import Asked
from tests.actors.upstream.test_upstream_actor import config, stage
from tests.gateway.endpoints.test_same_in_every_api import ask
from tests.gateway.harness import connected, gateway
from tests.gateway.openai.responses.test_completion import HEAD, speaks

CITED = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A", "start_index": 0}}
DETAILS = [{"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0}]
MESSAGE = {"annotations": [CITED], "audio": {"id": "a1", "data": "QUJD"}, "reasoning_details": DETAILS}
USED = {"cost": 0.25, "completion_tokens_details": {"audio_tokens": 3}}
STREAMED = sse(
    delta("", role="assistant") | {"service_tier": "flex", "citations": ["https://a.example"]},
    delta(reasoning="hm", reasoning_details=DETAILS),
    delta("Hel"),
    delta("lo"),
    delta(annotations=[CITED], audio={"id": "a1", "data": "QU"}),
    delta(audio={"data": "JD"}),
    end(native_finish_reason="STOP"),
    usage(7, 5, **USED),
)
WHOLE = whole(
    {"content": "Hello", "reasoning": "hm", **MESSAGE},
    service_tier="flex",
    citations=["https://a.example"],
    usage={"prompt_tokens": 7, "completion_tokens": 5, **USED},
).replace(b'"finish_reason": "stop"', b'"finish_reason": "stop", "native_finish_reason": "STOP"')
CHAT: dict[str, Any] = {"model": "cloud-only", "messages": [{"role": "user", "content": "Hi there"}], "max_tokens": 9}


async def answers(asked: Asked) -> None:
    """Whole, if it is asked for."""
    streamed = asked.body["stream"]
    kind = b"text/event-stream" if streamed else b"application/json"
    await asked.send(HEAD.replace(b"text/event-stream", kind))
    await asked.chunk(STREAMED if streamed else WHOLE)
    await asked.send(b"0\r\n\r\n")


@asynccontextmanager
async def served(server=answers, *, extra: str = "", tables: str = "", **settings: Any):
    async with (
        stage(server, {"small": says("fine", prompt=5)}, text=config(extra) + tables) as (service, network),
        gateway(service.service, **settings) as running,
    ):
        yield running, network, service


@pytest.mark.parametrize("extra", ["", 'stream = "as_asked"\n'])
async def test_a_whole_chat_has_all_of_it(extra: str) -> None:
    async with served(extra=extra) as (running, network, _):
        body = await ask(running, "/v1/chat/completions", CHAT)
        assert network.asked[0].body["stream"] is (not extra)
    (choice,) = body["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Hello",
        "refusal": None,
        "reasoning": "hm",
        "reasoning_content": "hm",
        **MESSAGE,
    }
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("stop", "STOP")
    assert (body["service_tier"], body["citations"]) == ("flex", ["https://a.example"])
    assert body["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 3},
        "cost": 0.25,
    }


async def test_a_stream_has_the_fragments() -> None:
    async with served() as (running, _, _):
        chunks = await ask(
            running, "/v1/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
        )
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert "".join([choice["delta"].get("content") or "" for choice in choices]) == "Hello"
    found = {name: [each["delta"][name] for each in choices if name in each["delta"]] for name in MESSAGE}
    assert found["annotations"] == [[CITED]]
    assert found["reasoning_details"] == [DETAILS]
    assert "".join([each["data"] for each in found["audio"]]) == "QUJD"
    assert [each["native_finish_reason"] for each in choices if "native_finish_reason" in each] == ["STOP"]
    assert [chunk["citations"] for chunk in chunks if "citations" in chunk] == [["https://a.example"]]
    assert [chunk["service_tier"] for chunk in chunks if "service_tier" in chunk] == ["flex"]
    # The finish reason comes after all of it, the usage last.
    assert [each["finish_reason"] for each in choices][-2:] == [None, "stop"]
    assert (chunks[-1]["usage"]["cost"], chunks[-1]["choices"]) == (0.25, [])


async def test_what_is_omitted() -> None:
    async with served(extra='extra_fields = "omit"\n') as (running, _, _):
        body = await ask(running, "/v1/chat/completions", CHAT)
        chunks = await ask(running, "/v1/chat/completions", {**CHAT, "stream": True})
    assert set(body["choices"][0]["message"]) == {"role", "content", "refusal", "reasoning", "reasoning_content"}
    assert "citations" not in body
    assert "cost" not in body["usage"]
    assert b"citations" not in msgspec.json.encode(chunks)


@pytest.mark.parametrize("streamed", [True, False])
async def test_hidden_reasoning_stays_hidden(streamed: bool) -> None:
    more = {"thinking_blocks": [{"thinking": "hm"}], "citations": [1]}
    spoken = STREAMED.replace(
        b'"content": "lo"', b'"content": "lo", "provider_specific_fields": ' + json.dumps(more).encode()
    )
    async with served(speaks(spoken), extra='supports = ["sampling"]\n') as (running, _, _):
        said = await ask(running, "/v1/chat/completions", {**CHAT, "include_reasoning": False, "stream": streamed})
    text = msgspec.json.encode(said)
    assert b"annotations" in text
    assert b"provider_specific_fields" in text
    assert b"reasoning_details" not in text
    assert b'"hm"' not in text


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_costs_of_all_choices(streamed: bool) -> None:
    async with served() as (running, network, _):
        said = await ask(running, "/v1/chat/completions", {
            **CHAT, "n": 2, "stream": streamed, **({"stream_options": {"include_usage": True}} if streamed else {}),
        })  # fmt: skip
        assert len(network.asked) == 2
    used = (said[-1] if streamed else said)["usage"]
    assert (used["cost"], used["completion_tokens_details"]["audio_tokens"]) == (0.5, 6)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_text_completion(streamed: bool) -> None:
    choice = {"index": 0, "text": "Hello", "finish_reason": "stop", "safe": {"hate": 0}}
    spoken = sse({"choices": [choice], "service_tier": "flex"}, usage(7, 5, cost=0.25))
    async with served(speaks(spoken)) as (running, _, _):
        said = await ask(running, "/v1/completions", {"model": "cloud-only", "prompt": "Hi", "stream": streamed})
    chunks = said if streamed else [said]
    assert [each["service_tier"] for each in chunks if "service_tier" in each] == ["flex"]
    assert [each["choices"][0]["safe"] for each in chunks if "safe" in each["choices"][0]] == [{"hate": 0}]
    assert "".join([each["choices"][0]["text"] for each in chunks]) == "Hello"


@pytest.mark.parametrize("streamed", [True, False])
async def test_responses_have_annotations_and_the_tier(streamed: bool) -> None:
    asked = {"model": "cloud-only", "input": "Hi there", "stream": streamed}
    async with served() as (running, _, _):
        said = await ask(running, "/v1/responses", asked)
    annotation = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0}
    if streamed:
        (added,) = [each for each in said if each["type"] == "response.output_text.annotation.added"]
        assert (added["annotation"], added["annotation_index"], added["content_index"]) == (annotation, 0, 0)
        said = said[-1]["response"]
        assert added["item_id"] == said["output"][-1]["id"]
    assert said["service_tier"] == "flex"
    assert said["output"][-1]["content"][0]["annotations"] == [annotation]


async def test_a_websocket_has_them_beside_the_text() -> None:
    async with served() as (running, _, _), connected(running) as socket:
        await socket.send({**CHAT, "type": "start", "id": "one"})
        said = await socket.until("done")
    extras = [each["extra"] for each in said if "extra" in each]
    assert extras[0]["body"] == {"service_tier": "flex", "citations": ["https://a.example"]}
    assert {name for each in extras for name in each.get("message", ())} == set(MESSAGE)
    assert [each["cost"] for each in said if each["type"] == "usage"] == [0.25]


async def test_an_answer_comes_back_as_it_was() -> None:
    async with served() as (running, network, _):
        first = await ask(running, "/v1/chat/completions", CHAT)
        answer = first["choices"][0]["message"]
        own = {"channel": "final", "executed_tools": [{"index": 0}], "end_turn": True, "content_parts": [{}]}
        turns = [*CHAT["messages"], {**answer, **own}, {"role": "user", "content": "And?"}]
        await ask(running, "/v1/chat/completions", {**CHAT, "messages": turns})
        sent = network.asked[1].body["messages"][1]
        assert {name: sent[name] for name in MESSAGE} == MESSAGE
        assert {name: sent.get(name) for name in own} == {**own, "content_parts": None}
        # An engine reads none of it.
        client = await running.connect()
        local = await client.request("/v1/chat/completions", {**CHAT, "model": "small", "messages": turns})
        assert local.status == 200, local.body


@pytest.mark.parametrize("name", ANSWERED)
async def test_only_answers_have_them(name: str) -> None:
    async with served() as (running, _, _):
        client = await running.connect()
        turns = [{"role": "user", "content": "Hi", name: [{"a": 1}]}]
        refused = await client.request("/v1/chat/completions", {**CHAT, "messages": turns})
    assert (refused.status, refused.json["error"]["param"]) == (400, f"messages[0].{name}")


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_no_guardrail_reads_is_left_out(streamed: bool) -> None:
    """A sound or an image would pass it unread."""
    table = '[guardrails.mild]\nmodel = "large"\npredicate = "Is it bad?"\nthreshold = 1.0\n'
    table += 'reads = "answer"\naction = "log"\n'
    async with served(tables=table) as (running, _, _):
        said = await ask(running, "/v1/chat/completions", {**CHAT, "stream": streamed})
    text = msgspec.json.encode(said)
    assert b"Hel" in text
    assert b"citations" in text
    assert b"audio" not in text.replace(b"audio_tokens", b"")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_rung_that_fails_before_content_leaves_nothing(streamed: bool) -> None:
    spoken = sse(delta("", role="assistant") | {"citations": ["a"]}, done=False)
    async with served(speaks(spoken)) as (running, _, _):
        said = await ask(running, "/v1/chat/completions", {**CHAT, "model": "cloud", "stream": streamed})
    text = msgspec.json.encode(said)
    assert b'"rung":"small"' in text
    assert b"citations" not in text


@pytest.mark.parametrize("streamed", [True, False])
async def test_after_reasoning_alone_another_rung_answers(streamed: bool) -> None:
    """Whatever form it came in: an answer has not begun."""
    spoken = sse(delta("", channel="analysis"), delta(reasoning="hm", reasoning_details=DETAILS), done=False)
    async with served(speaks(spoken)) as (running, _, _):
        said = await ask(running, "/v1/chat/completions", {**CHAT, "model": "cloud", "stream": streamed})
    text = msgspec.json.encode(said)
    assert b'"rung":"small"' in text


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_unfinished_call_leaves_nothing(streamed: bool) -> None:
    spoken = sse(parts(part(0, "a", name="now", arguments="{")) | {"service_tier": "flex"}, done=False)
    tools = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
    async with served(speaks(spoken)) as (running, _, _):
        client = await running.connect()
        asked = {**CHAT, "tools": tools, "stream": streamed}
        answer = await client.request("/v1/chat/completions", asked)
    assert (answer.status, answer.json["error"]["code"]) == (503, "no_rung_available")


async def test_an_answer_of_a_sound_alone() -> None:
    spoken = sse(delta(audio={"id": "a1", "transcript": "Hello"}), end(), usage(7, 5))
    async with served(speaks(spoken)) as (running, _, service):
        body = await ask(running, "/v1/chat/completions", CHAT)
        message = body["choices"][0]["message"]
        assert (message["content"], message["audio"]) == ("", {"id": "a1", "transcript": "Hello"})
        await service.service.write_ledger(1)
        (row,) = service.rows().values()
        assert (row["outcome"], row["completion_tokens"]) == ("ok", 5)


async def test_a_sound_is_asked_for_as_the_client_wants_it() -> None:
    """A stream has another format."""
    sound = {"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}
    async with served() as (running, network, _):
        body = await ask(running, "/v1/chat/completions", {**CHAT, **sound})
        await ask(running, "/v1/chat/completions", {**CHAT, **sound, "stream": True})
        assert [each.body["stream"] for each in network.asked] == [False, True]
    assert body["choices"][0]["message"]["audio"] == MESSAGE["audio"]


@pytest.mark.parametrize("streamed", [True, False])
async def test_logprobs_of_a_refusal(streamed: bool) -> None:
    token = {"token": "No", "logprob": -0.5, "bytes": [78, 111], "top_logprobs": []}
    refused = delta(refusal="No")
    refused["choices"][0]["logprobs"] = {"content": None, "refusal": [token]}
    async with served(speaks(sse(refused, end()))) as (running, _, _):
        said = await ask(running, "/v1/chat/completions", {**CHAT, "logprobs": True, "stream": streamed})
    choices = [each["choices"][0] for each in (said if streamed else [said])]
    assert [each["logprobs"] for each in choices if each["logprobs"]] == [{"content": None, "refusal": [token]}]


async def test_an_image_of_megabytes_reaches_a_client() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (3 << 20)}}
    async with served(speaks(sse(delta("See"), delta(images=[image]), end()))) as (running, _, _):
        body = await ask(running, "/v1/chat/completions", CHAT)
        assert body["choices"][0]["message"]["images"] == [image]
        chunks = await ask(running, "/v1/chat/completions", {**CHAT, "stream": True})
        assert [
            each["choices"][0]["delta"]["images"] for each in chunks if "images" in each["choices"][0]["delta"]
        ] == [[image]]


@pytest.mark.parametrize("depth", [100, 500, 800, 900, 950, 990, 2000])
async def test_any_depth_is_answered(depth: int) -> None:
    """What is too deep for the interpreter is left out, or the upstream's fault, but no fault of the gateway."""
    deep = b"[" * depth + b"]" * depth
    spoken = sse(delta("Hi")).replace(b"[DONE]", b"").replace(b'"Hi"}', b'"Hi", "deep": %b}' % deep) + sse(end())
    async with served(speaks(spoken)) as (running, _, _):
        client = await running.connect()
        answer = await client.request("/v1/chat/completions", CHAT)
        assert answer.status in {200, 503}, answer.body
        streamed = await client.request("/v1/chat/completions", {**CHAT, "stream": True})
        assert streamed.status in {200, 503}
        assert b"internal" not in answer.body + streamed.body


OWN = {"provider": {"order": ["a"]}, "enable_thinking": False}
NAMES = frozenset({*OWN, "top_a"})
KNOWS = 'extra_request_fields = ["provider", "enable_thinking", "top_a"]\n'


@pytest.mark.parametrize(
    ("path", "prompt"),
    [("/v1/chat/completions", {"messages": CHAT["messages"]}), ("/v1/completions", {"prompt": "Hi"})],
)
async def test_fields_of_a_request_that_an_upstream_knows(path: str, prompt: dict[str, Any]) -> None:
    async with served(extra=KNOWS, extra_names=NAMES) as (running, network, _):
        await ask(running, path, {"model": "cloud-only", **prompt, **OWN, "top_a": None})
    sent = network.asked[0].body
    assert {name: sent[name] for name in OWN} == OWN
    assert "top_a" not in sent


async def test_they_are_known_on_a_websocket_too() -> None:
    async with served(extra=KNOWS, extra_names=NAMES) as (running, network, _), connected(running) as socket:
        await socket.send({**CHAT, **OWN, "type": "start", "id": "one"})
        await socket.until("done")
    assert network.asked[0].body["provider"] == OWN["provider"]


NESTED = [{"role": "user", "content": "Hi", "provider": 1}]
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("no upstream knows it", {**CHAT, "providr": 1}, "unknown_field", "providr"),
    ("beside one that is wrong", {**CHAT, **OWN, "temperature": "hot"}, "invalid_type", "temperature"),
    ("beside one that no upstream knows", {**CHAT, **OWN, "x": 1}, "unknown_field", "x"),
    ("an engine", {**CHAT, **OWN, "model": "small"}, "unsupported_parameter", "provider"),
    ("not of the body itself", {**CHAT, "messages": NESTED}, "unknown_field", "messages[0].provider"),
]


@pytest.mark.parametrize(("body", "code", "param"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_others_are_refused_by_name(body: dict[str, Any], code: str, param: str) -> None:
    async with served(extra=KNOWS, extra_names=NAMES) as (running, _, _):
        client = await running.connect()
        refused = await client.request("/v1/chat/completions", body)
    assert (refused.status, refused.json["error"]["code"], refused.json["error"]["param"]) == (400, code, param)


async def test_a_field_that_is_given_twice() -> None:
    async with served(extra=KNOWS, extra_names=NAMES) as (running, _, _):
        client = await running.connect()
        raw = msgspec.json.encode({**CHAT, **OWN})[:-1] + b',"provider":1}'
        refused = await client.request("/v1/chat/completions", raw)
    assert (refused.status, refused.json["error"]["code"]) == (400, "duplicate_field")


async def test_a_rung_that_does_not_know_it_is_passed_over() -> None:
    other = '[upstreams.knows]\nurls = ["http://b/v1"]\nmodel = "m"\nextra_request_fields = ["provider"]\n'
    both = '[[ladders.both]]\nto = "cloud"\n[[ladders.both]]\nto = "knows"\n'
    text = config().replace('use = { ladder = "cloud-only" }', 'use = { ladder = "both" }', 1) + other + both
    async with (
        stage({"a": answers, "b": answers}, {"small": says("fine", prompt=5)}, text=text) as (service, network),
        gateway(service.service, extra_names=NAMES) as running,
    ):
        body = await ask(running, "/v1/chat/completions", {**CHAT, "provider": {}})
        assert body["penstock"]["rung"] == "knows"
        assert [each.body["provider"] for each in network.asked] == [{}]


def test_no_field_of_the_api_is_forgotten() -> None:
    """Where the check of a configuration says that a name needs no entry."""
    decoders = [
        CHAT_ENDPOINT.decoder,
        COMPLETION_ENDPOINT.decoder,
        BodyDecoder(StartChat),
        BodyDecoder(StartCompletion),
    ]
    assert {name for each in decoders for name in each.known} == API_FIELDS
