"""An error that something in the request has caused is the request's, whatever its status; any other stays as it is."""

import json
from typing import Any

import pytest
from trio.testing import wait_all_tasks_blocked

from actors.api.content import MediaPart
from actors.api.request import ChatMessage, ChatPrompt, Prompt, TextPrompt
from actors.protocol.job import UpstreamCall
from actors.upstream.failures.failure import of_event, of_status
from actors.upstream.failures.request_fault import blamed
from engine.sampling.params import SamplingParams
from engine.text.tool_calls import Tool, ToolSet
from tests.actors.upstream.test_upstream_actor import CHAT, stage, status

DEFINITION = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
TOOLS = ToolSet((Tool("now", DEFINITION, {"type": "object"}),))
IMAGE = MediaPart(medium="image", where="messages[0].content[0]", url="https://x.example/i.png", digest=b"1")
PLAIN = ChatPrompt((ChatMessage("user", "Hi"),))
WITH_TOOLS = ChatPrompt((ChatMessage("user", "Hi"),), TOOLS)
WITH_IMAGE = ChatPrompt((ChatMessage("user", "Hi", parts=(IMAGE,)),))
TEXT = TextPrompt("Hi")
NO_TOOLS = "No endpoints found that support tool use. To learn more, visit https://openrouter.ai/docs"
NO_PARAMETERS = "No endpoints found that can handle the requested parameters."
NO_COMPLETION = "This is a chat model and not supported in the v1/completions endpoint. Use v1/chat/completions?"
NO_CHAT = "This is not a chat model and thus not supported in the v1/chat/completions endpoint."
NO_IMAGE = "image input is not supported - hint: you may need to provide the mmproj"


def call(prompt: Prompt, **written: Any) -> UpstreamCall:
    return UpstreamCall(sequence_id=1, model="m", prompt=prompt, params=SamplingParams(max_tokens=9), written=written)


@pytest.mark.parametrize(
    ("error", "prompt", "written", "is_requests"),
    [
        ((404, NO_TOOLS), WITH_TOOLS, {}, True),
        ((404, NO_TOOLS), PLAIN, {}, False),
        ((404, "No endpoints found that support image input"), WITH_IMAGE, {}, True),
        ((404, "No endpoints found that support image input"), PLAIN, {}, False),
        ((404, NO_PARAMETERS), PLAIN, {"reasoning_effort": "low"}, True),
        ((404, NO_PARAMETERS), PLAIN, {}, False),
        ((404, "No endpoints found for m."), WITH_TOOLS, {}, False),
        ((404, NO_COMPLETION), TEXT, {}, True),
        ((404, NO_COMPLETION), PLAIN, {}, False),
        ((404, NO_CHAT), PLAIN, {}, True),
        ((404, "The model `m-tools` does not exist. Please contact support."), WITH_TOOLS, {}, False),
        ((404, "The model `vision` does not exist"), WITH_IMAGE, {}, False),
        ((404, "Not Found"), WITH_TOOLS, {}, False),
        ((415, ""), WITH_IMAGE, {}, True),
        ((415, ""), PLAIN, {}, False),
        ((415, "Unsupported media type: image/webp"), WITH_IMAGE, {}, True),
        ((500, NO_IMAGE), WITH_IMAGE, {}, True),
        ((500, NO_IMAGE), PLAIN, {}, False),
        ((500, "tools param requires --jinja flag"), WITH_TOOLS, {}, True),
        ((500, "out of memory"), WITH_IMAGE, {}, False),
        ((501, "response_format is not implemented"), PLAIN, {"response_format": {"type": "json_object"}}, True),
        ((401, "This key does not support tools"), WITH_TOOLS, {}, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("in_a_stream", [True, False])
def test_the_words_and_the_request_decide(
    error: tuple[int, str], prompt: Prompt, written: dict[str, Any], is_requests: bool, in_a_stream: bool
) -> None:
    code, words = error
    body = json.dumps({"error": {"message": words, "code": code}}).encode()
    failure = of_event(body) if in_a_stream else of_status(code, body)
    found = blamed(failure, call(prompt, **written))
    if not is_requests:
        assert found is failure
        assert found.breaker_outcome is False
        return
    assert (found.kind, found.fault, found.retryable, found.breaker_outcome) == (
        "upstream_rejected",
        "client",
        False,
        None,
    )
    assert words in found.client_message


async def test_one_clients_tools_shut_nobody_out(autojump_clock) -> None:
    body = json.dumps({"error": {"message": NO_TOOLS, "code": 404}}).encode()
    async with stage(status(404, body=body)) as (service, network):
        for _ in range(14):
            refusal = (await service.ask("cloud-only", prompts=(WITH_TOOLS,))).refusal.body
            assert (refusal.status, refusal.code) == (400, "upstream_rejected")
            assert "support tool use" in refusal.message
        await wait_all_tasks_blocked()
        assert len(network.asked) == 14
        assert service.service.statistics().breakers["cloud"] == "closed"
        assert (await service.ask("cloud-only", prompts=CHAT)).refusal.body.status == 503
