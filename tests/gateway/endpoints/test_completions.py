"""The two endpoints over a real socket, with scripted answers."""

from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel

from actors.api.errors import Busy, ErrorBody, Unavailable
from actors.api.request import ChatMessage, ChatPrompt, InferenceRequest, TextPrompt, TokenPrompt
from actors.api.response import DecisionInfo, Delta, Done, Failed, Start
from engine.messages import TokenLogprobs
from tests.gateway.fakes import SERVED, USAGE, FakeService, Step, answer, words
from tests.gateway.harness import CHAT, STREAM, Client, events, gateway

FAILURE = ErrorBody(503, "server_error", "engine_failed", "The engine failed.", should_retry=True)


async def test_a_whole_chat_completion() -> None:
    service = FakeService()
    async with gateway(service) as running:
        client = await running.connect()
        response = await client.request(
            "/v1/chat/completions", CHAT, headers="Authorization: Bearer k\r\nX-Penstock-Tags: a, b, ,a\r\n"
        )
        body = response.json
        assert response.status == 200
        assert body["id"] == "chatcmpl-" + response.headers["x-request-id"]
        assert body["object"] == "chat.completion"
        assert body["choices"] == [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ]
        assert body["usage"] == {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }
        assert body["system_fingerprint"] == "fp_test"
        assert body["penstock"]["rung"] == "small"
        assert body["penstock"]["attempts"] == [{"rung": "small", "outcome": "answered", "why": "confident"}]
        for name, value in (("route", "tests"), ("rung", "small"), ("why", "confident"), ("policy", "test")):
            assert response.headers[f"x-penstock-{name}"] == value
        request = service.requests[0]
        assert request.body.prompts == (ChatPrompt((ChatMessage("user", "Hello?"),)),)
        assert (request.credentials.api_key, request.credentials.tags) == ("k", ("a", "b"))
        assert request.body.params.max_tokens == 0
        assert service.open_responses == 0
        # The connection is kept for the next one.
        assert (await client.request("/v1/chat/completions", CHAT)).status == 200


async def test_who_decided_is_reported_with_the_arm() -> None:
    service = FakeService()
    service.decided = DecisionInfo("abc123", "try it", "b")
    async with gateway(service) as running:
        client = await running.connect()
        for body in (CHAT, STREAM):
            response = await client.request("/v1/chat/completions", body)
            assert response.headers["x-penstock-policy"] == "abc123"
            assert response.headers["x-penstock-arm"] == "try it/b"
        assert events(response.body)[0]["system_fingerprint"] == "fp_abc123"
        service.script = lambda _: [Unavailable("engine_failed", "No rung could serve.")]
        refused = await client.request("/v1/chat/completions", STREAM)
        assert (refused.status, refused.headers["x-penstock-arm"]) == (503, "try it/b")


async def test_a_streamed_chat_completion() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        response = await client.request("/v1/chat/completions", STREAM)
        first, *middle, last, done = events(response.body)
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["x-penstock-rung"] == "small"
        assert first["object"] == "chat.completion.chunk"
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert [each["choices"][0]["delta"] for each in middle] == [{"content": "Hel"}, {"content": "lo"}]
        assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
        assert last["penstock"]["why"] == "confident"
        assert "usage" not in last
        assert done == "[DONE]"
        assert (await client.request("/v1/chat/completions", STREAM)).status == 200


async def test_usage_comes_in_a_chunk_without_choices() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        response = await client.request("/v1/chat/completions", {**STREAM, "stream_options": {"include_usage": True}})
        *chunks, last, done = events(response.body)
        assert done == "[DONE]"
        assert all(each["usage"] is None for each in chunks)
        assert (last["choices"], last["usage"]["total_tokens"], last["penstock"]["rung"]) == ([], 8, "small")
        assert "penstock" not in chunks[-1]


@pytest.mark.parametrize("include_usage", [True, False, None])
@pytest.mark.parametrize(
    ("path", "ask"),
    [("/v1/chat/completions", STREAM), ("/v1/completions", {"model": "m", "prompt": "x", "stream": True})],
)
async def test_continuous_usage_stands_in_every_chunk(path: str, ask: Any, include_usage: bool | None) -> None:
    """As vLLM counts: the prompt's tokens from the first chunk on, the answer's as far as they came."""
    options = {"continuous_usage_stats": True, "include_usage": include_usage}
    async with gateway(FakeService(lambda _: answer("Hel", "lo", " you"))) as running:
        client = await running.connect()
        response = await client.request(path, {**ask, "stream_options": options})
        *chunks, done = events(response.body)
        assert done == "[DONE]"
        used = [each["usage"]["completion_tokens"] for each in chunks if each["choices"] and not _finish(each)]
        assert used == ([1, 1, 2, 3] if "chat" in path else [1, 2, 3])
        assert all(each["usage"]["prompt_tokens"] == 5 for each in chunks)
        assert all(each["usage"]["total_tokens"] == 5 + each["usage"]["completion_tokens"] for each in chunks)
        # The last one is the true usage, in a chunk of its own only where that was asked for.
        assert chunks[-1]["usage"]["completion_tokens"] == USAGE.completion_tokens
        assert (not chunks[-1]["choices"]) is bool(include_usage)


async def test_continuous_usage_counts_all_choices_and_log_probabilities_too() -> None:
    def script(request: InferenceRequest) -> list[Step]:
        return [
            [Start("tests", "small", 5), *words("a", "b", logprobs=True), *words("c", index=1)],
            [Done(USAGE, SERVED)],
        ]

    async with gateway(FakeService(script)) as running:
        client = await running.connect()
        ask = {**STREAM, "n": 2, "logprobs": True, "stream_options": {"continuous_usage_stats": True}}
        *chunks, _ = events((await client.request("/v1/chat/completions", ask)).body)
        assert [each["usage"]["completion_tokens"] for each in chunks][:5] == [1, 1, 2, 3, 3]


async def test_continuous_usage_counts_the_reasonings_tokens() -> None:
    def script(request: InferenceRequest) -> list[Step]:
        thought = [Delta(0, "", (1,), reasoning="a", reasoning_tokens=1), Delta(0, "", (2,), reasoning_tokens=1)]
        return [[Start("tests", "small", 5), *thought, *words("b")], [Done(USAGE, SERVED)]]

    async with gateway(FakeService(script)) as running:
        client = await running.connect()
        ask = {**STREAM, "stream_options": {"continuous_usage_stats": True}}
        *chunks, _ = events((await client.request("/v1/chat/completions", ask)).body)
        counts = [each["usage"]["completion_tokens_details"]["reasoning_tokens"] for each in chunks]
        assert counts == [1, 1, 2, USAGE.reasoning_tokens]


def _finish(chunk: Any) -> bool:
    return chunk["choices"][0]["finish_reason"] is not None


async def test_what_is_ready_goes_out_together() -> None:
    steps: list[Step] = [[*words("a", "b", "c"), Done(USAGE, SERVED)]]
    async with gateway(FakeService(lambda _: steps)) as running:
        client = await running.connect()
        await client.post("/v1/chat/completions", STREAM)
        _, headers = await client.head()
        assert headers["x-penstock-why"] == "confident"
        assert len(events(await client.chunk())) == 6
        assert await client.chunk() == b""


async def test_choices_are_in_order_whatever_comes_first() -> None:
    def script(request: InferenceRequest) -> list[Step]:
        assert request.body.n == 2
        return [words("second", index=1, reason="length"), words("first"), [Done(USAGE, SERVED)]]

    async with gateway(FakeService(script)) as running:
        client = await running.connect()
        body = (await client.request("/v1/chat/completions", {**CHAT, "n": 2})).json
        assert [each["message"]["content"] for each in body["choices"]] == ["first", "second"]
        assert [each["finish_reason"] for each in body["choices"]] == ["stop", "length"]
        streamed = events((await client.request("/v1/chat/completions", {**STREAM, "n": 2})).body)
        reasons = {each["choices"][0]["index"]: each["choices"][0]["finish_reason"] for each in streamed[:-1]}
        assert reasons == {0: "stop", 1: "length"}
        assert ["penstock" in each for each in streamed[:-1]] == [False] * 5 + [True]


async def test_text_completions_of_several_prompts() -> None:
    service = FakeService(lambda _: [words("x"), words("y", index=1), [Done(USAGE, SERVED)]])
    async with gateway(service) as running:
        client = await running.connect()
        body = (await client.request("/v1/completions", {"model": "m", "prompt": ["a", "b"]})).json
        assert [each["text"] for each in body["choices"]] == ["x", "y"]
        assert body["object"] == "text_completion"
        assert service.requests[0].body.prompts == (TextPrompt("a"), TextPrompt("b"))
        assert service.requests[0].body.params.max_tokens == 16
        await client.request("/v1/completions", {"model": "m", "prompt": [[1, 2], [3]], "max_tokens": 4})
        assert service.requests[1].body.prompts == (TokenPrompt((1, 2)), TokenPrompt((3,)))
        streamed = events(
            (await client.request("/v1/completions", {"model": "m", "prompt": ["a", "b"], "stream": True})).body
        )
        assert [each["choices"][0]["text"] for each in streamed[:-1]] == ["x", "y", "", ""]


async def test_logprobs_of_both_endpoints() -> None:
    async with gateway(FakeService(lambda _: answer("Hé", "y", logprobs=True))) as running:
        client = await running.connect()
        asked = {**CHAT, "logprobs": True, "top_logprobs": 2}
        content = (await client.request("/v1/chat/completions", asked)).json["choices"][0]["logprobs"]["content"]
        assert content[0] == {
            "token": "Hé",
            "logprob": -0.5,
            "bytes": [72, 195, 169],
            "top_logprobs": [
                {"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169]},
                {"token": "\ufffd", "logprob": -2.0, "bytes": [195]},
            ],
        }
        streamed = events((await client.request("/v1/chat/completions", {**asked, "stream": True})).body)
        assert streamed[1]["choices"][0]["logprobs"]["content"] == content[:1]
        text = {"model": "m", "prompt": "a", "logprobs": 2}
        whole = (await client.request("/v1/completions", text)).json["choices"][0]["logprobs"]
        assert (whole["tokens"], whole["text_offset"], whole["token_logprobs"]) == (["Hé", "y"], [0, 2], [-0.5, -0.5])
        streamed = events((await client.request("/v1/completions", {**text, "stream": True})).body)
        assert [each["choices"][0]["logprobs"]["text_offset"] for each in streamed[:2]] == [[0], [2]]


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_a_refusal_before_content_has_its_true_status(body: dict[str, object]) -> None:
    def refuse(request: InferenceRequest) -> list[Step]:
        if len(service.requests) == 1:
            raise Busy("queue_full", "The queue is full.", 2.5)
        return [Unavailable("no_rung", "No rung could serve.")]

    service = FakeService(refuse)
    async with gateway(service) as running:
        client = await running.connect()
        response = await client.request("/v1/chat/completions", body)
        assert (response.status, response.error["code"]) == (429, "queue_full")
        assert response.headers["retry-after"] == "3"
        assert response.headers["retry-after-ms"] == "2500"
        assert response.headers["x-should-retry"] == "true"
        assert response.headers["x-request-id"]
        response = await client.request("/v1/chat/completions", body)
        assert (response.status, response.error["code"]) == (503, "no_rung")
        assert service.open_responses == 0


async def test_a_failure_after_content_ends_the_stream_with_an_error_event() -> None:
    service = FakeService(lambda _: [[Delta(0, "Hel", (1,))], [Failed(FAILURE, USAGE, SERVED)]])
    async with gateway(service) as running:
        client = await running.connect()
        response = await client.request("/v1/chat/completions", STREAM)
        *_, content, error = events(response.body)
        assert content["choices"][0]["delta"] == {"content": "Hel"}
        assert error["error"]["code"] == "engine_failed"
        assert b"[DONE]" not in response.body
        # The body ends whole, so the connection serves on.
        assert "connection" not in response.headers
        assert (await client.get("/livez")).status == 200
        # Whole answers have sent nothing yet, so there is a true status.
        whole = await (await running.connect()).request("/v1/chat/completions", CHAT)
        assert (whole.status, whole.error["code"]) == (503, "engine_failed")


@pytest.mark.parametrize("end", [RuntimeError("secret prompt"), None])
async def test_a_crash_after_content_ends_the_stream_with_an_error_event(end: Exception | None) -> None:
    steps: list[Step] = [[Delta(0, "Hel", (1,))]]
    async with gateway(FakeService(lambda _: [*steps, end] if end else steps)) as running:
        client = await running.connect()
        response = await client.request("/v1/chat/completions", STREAM)
        assert events(response.body)[-1]["error"]["code"] == "internal_error"
        assert b"secret" not in response.body
        whole = await (await running.connect()).request("/v1/chat/completions", CHAT)
        assert (whole.status, whole.error["code"]) == (500, "internal_error")
        assert whole.headers["x-should-retry"] == "true"


async def test_a_client_of_http_1_0_gets_a_stream_that_ends_with_the_connection() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        body = b'{"model":"m","prompt":"a","stream":true}'
        await client.send(b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        _, headers = await client.head()
        assert "transfer-encoding" not in headers
        assert events(await client.ended())[-1] == "[DONE]"


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with gateway(FakeService(lambda request: answer(request.body.model))) as running:
        client = await running.connect()
        await client.post("/v1/chat/completions", {**CHAT, "model": "a"})
        await client.post("/v1/chat/completions", {**STREAM, "model": "b"})
        await client.post("/v1/chat/completions", {**CHAT, "model": "c"})
        assert (await client.response()).json["model"] == "a"
        assert events((await client.response()).body)[-1] == "[DONE]"
        assert (await client.response()).json["model"] == "c"


async def _slow(client: Client, body: bytes) -> None:
    for index in range(0, len(body), 7):
        await client.send(body[index : index + 7])
        await trio.lowlevel.checkpoint()


async def test_a_request_may_come_in_pieces_and_chunks() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        body = b'{"model":"m","prompt":"a"}'
        head = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body)
        await _slow(client, head + body)
        assert (await client.response()).status == 200
        await _slow(
            client,
            b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5;x=y\r\n%b\r\n%x\r\n%b\r\n0\r\nTrailer: 1\r\n\r\n" % (body[:5], len(body) - 5, body[5:]),
        )
        assert (await client.response()).status == 200


async def test_expect_100_continue() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        body = b'{"model":"m","prompt":"a"}'
        await client.send(
            b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
            % len(body)
        )
        assert (await client.head())[0] == 100
        await client.send(body)
        assert (await client.response()).status == 200


async def test_a_client_that_would_rather_speak_http2() -> None:
    """Java's own client asks so with each request."""
    wish = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    async with gateway(FakeService()) as running:
        client = await running.connect()
        for _ in range(2):
            assert (await client.request("/v1/chat/completions", CHAT, headers=wish)).status == 200


async def test_special_tokens_are_no_text() -> None:
    spelled = [("Hi", False), ("<|end|>", True), ("!", False), ("<|end|>", True)]
    deltas = [
        Delta(0, "" if special else token, (at,), (TokenLogprobs(at, -0.5, token.encode(), special=special),))
        for at, (token, special) in enumerate(spelled)
    ]
    deltas[-1] = msgspec.structs.replace(deltas[-1], finish_reason="stop")
    steps = [[Start("tests", "small", 5)], deltas, [Done(USAGE, SERVED)]]
    async with gateway(FakeService(lambda _: steps)) as running:
        client = await running.connect()
        asked = {**CHAT, "logprobs": True}
        choice = (await client.request("/v1/chat/completions", asked)).json["choices"][0]
        assert [each["token"] for each in choice["logprobs"]["content"]] == ["Hi", "!"]
        assert choice["message"]["content"] == "Hi!"
        streamed = events((await client.request("/v1/chat/completions", {**asked, "stream": True})).body)
        said = [each["choices"][0]["logprobs"]["content"] for each in streamed[1:-2]]
        assert [[each["token"] for each in part] for part in said] == [["Hi"], ["!"]]
        text = {"model": "m", "prompt": "a", "logprobs": 0}
        whole = (await client.request("/v1/completions", text)).json["choices"][0]["logprobs"]
        assert whole["text_offset"] == [0, 2, 2, 3]


@pytest.mark.parametrize("body", [b"", b"{", b'{"a"', b"\xff", b'{"model": 1}', b'{"mdoel": "m"}', b'{"a": 1, "a": 2}'])
async def test_a_body_in_pieces_is_read_like_one_in_a_piece(body: bytes) -> None:
    """Errors too, and they name the same place."""
    async with gateway(FakeService()) as running:
        client = await running.connect()
        whole = await client.request("/v1/chat/completions", body)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.send(head + b"".join([b"1\r\n%c\r\n" % each for each in body]) + b"0\r\n\r\n")
        pieces = await client.response()
        assert (pieces.status, pieces.body) == (whole.status, whole.body)
