"""`stream = "as_asked"`: an answer that the client wants whole is requested whole."""

import json
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.api.request import TextPrompt
from actors.api.response import Delta
from tests.actors.upstream.network import Asked, Server, says
from tests.actors.upstream.test_upstream_actor import CHAT, FINE, WITH_TOOLS, failures, outcomes, stage

AS_ASKED = 'stream = "as_asked"\n'
USAGE = {"prompt_tokens": 11, "completion_tokens": 2}
LOGPROBS = {"content": [{"token": "Hello", "bytes": None, "logprob": -0.5, "top_logprobs": []}]}
CALL = {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def whole(reason: str | None = "stop", usage: dict[str, Any] | None = USAGE, **message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return json.dumps({"object": "chat.completion", "model": "llama", "choices": [choice], "usage": usage}).encode()


def sends(body: bytes, missing: int = 0) -> Server:
    """A server of one whole answer, which closes the connection `missing` bytes before its end."""

    async def serve(asked: Asked) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        await asked.send(head + body[: len(body) - missing])
        if missing:
            await asked.stream.aclose()

    return serve


async def test_it_is_requested_whole_and_read(autojump_clock):
    async with stage(sends(whole(content="Hello", reasoning_content="Hm.")), extra=AS_ASKED) as (service, network):
        answer = await service.ask("cloud", prompts=CHAT, streamed=False)
        assert (answer.text(), answer.reasons()) == ("Hello", ["stop"])
        assert "".join([event.reasoning for event in answer.events if isinstance(event, Delta)]) == "Hm."
        assert (answer.end.usage.prompt_tokens, answer.end.usage.completion_tokens) == (11, 2)
        asked = network.asked[0]
        assert (asked.body["stream"], "stream_options" in asked.body) == (False, False)
        assert asked.headers["accept"] == "application/json"
        await service.assert_clean()
        assert service.row("r1")["completion_tokens"] == 2


async def test_all_choices_of_a_text_completion(autojump_clock):
    choice = {"index": 0, "text": "Hello", "finish_reason": "length"}
    body = json.dumps({"choices": [choice], "usage": USAGE}).encode()
    async with stage(sends(body), extra=AS_ASKED) as (service, network):
        answer = await service.ask("cloud", prompts=(TextPrompt("x"),), n=3, streamed=False)
        assert [answer.text(index) for index in range(3)] == ["Hello"] * 3
        assert answer.reasons() == ["length"] * 3
        assert answer.end.usage.completion_tokens == 6
        assert {asked.body["stream"] for asked in network.asked} == {False}


async def test_tool_calls(autojump_clock):
    async with stage(sends(whole("tool_calls", tool_calls=[CALL])), extra=AS_ASKED) as (service, _):
        answer = await service.ask("cloud", prompts=WITH_TOOLS, streamed=False)
        calls = [call for event in answer.events if isinstance(event, Delta) for call in event.calls]
        assert [(call.id, call.name, call.arguments) for call in calls] == [("x", "add", '{"a": 1}')]
        assert answer.reasons() == ["tool_calls"]


async def test_log_probabilities(autojump_clock):
    choice = {"index": 0, "message": {"content": "Hello"}, "logprobs": LOGPROBS, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice], "usage": USAGE}).encode()
    async with stage(sends(body), extra=AS_ASKED) as (service, _):
        answer = await service.ask("cloud", prompts=CHAT, streamed=False, logprobs=0)
        found = [one.logprob for event in answer.events if isinstance(event, Delta) for one in event.logprobs]
        assert found == [-0.5]


@pytest.mark.parametrize(
    ("extra", "streamed"),
    [(AS_ASKED, True), ("", False), ('stream = "always"\n', False)],
    ids=["client", "default", "always"],
)
async def test_else_it_is_streamed(autojump_clock, extra, streamed):
    async with stage(says("Hel", "lo"), extra=extra) as (service, network):
        answer = await service.ask("cloud", prompts=CHAT, streamed=streamed)
        assert answer.text() == "Hello"
        assert network.asked[0].body["stream"] is True
        assert network.asked[0].headers["accept"] == "text/event-stream"


async def refuses(asked: Asked) -> None:
    await asked.status(500)


async def is_silent(_: Asked) -> None:
    await trio.sleep_forever()


FAULTS = {
    "refused": (refuses, "upstream_error"),
    "cut": (sends(whole(content="Hello"), missing=9), "upstream_truncated"),
    "not JSON": (sends(b'{"choices": nothing}'), "upstream_garbled"),
    "an error": (sends(b'{"error": {"message": "no", "type": "server_error"}}'), "upstream_failed"),
    "no answer": (sends(b'{"choices": []}'), "upstream_truncated"),
    "silent": (is_silent, "ttft_timeout"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_a_fault_the_next_rung_begins_again(autojump_clock, fault):
    server, kind = FAULTS[fault]
    async with stage(server, FINE, extra=AS_ASKED) as (service, network):
        answer = await service.ask("cloud", prompts=CHAT, streamed=False)
        assert answer.text() == "fine"
        assert outcomes(answer)[0][0::2] == ("cloud", kind)
        if kind.startswith("upstream"):
            assert failures(service) == {kind: 1}
        await service.assert_clean()
        assert service.row("r1")["completion_tokens"] == answer.end.usage.completion_tokens
        assert network.asked[0].body["stream"] is False


async def test_a_client_that_leaves_ends_the_call(autojump_clock):
    async with stage(is_silent, extra=AS_ASKED) as (service, network):
        with trio.move_on_after(1):
            await service.ask("cloud", prompts=CHAT, streamed=False)
        await wait_all_tasks_blocked()
        assert network.open == 0
        await service.assert_clean()
        assert service.row("r1")["outcome"] == "gone"
