"""Events of a stream: their order, their numbers, and that the official client's models take each of them."""

import json
from itertools import pairwise
from typing import Any, get_args

import pytest
from openai.types import responses
from openai.types.responses import Response, ResponseStreamEvent

from actors.api.errors import ErrorBody
from actors.api.response import Delta, Done, Failed, MadeCall, ResponseEvent, Start
from engine.messages import TokenLogprobs
from gateway.responses_api.event_renderer import ResponseRenderer, break_off
from gateway.responses_api.response_object import WholeResponse, response_body
from tests.gateway.fakes import SERVED, USAGE
from tests.gateway.responses_api.test_response_object import IDENTITY, asked

START, DONE = Start("tests", "small", 5), Done(USAGE, SERVED)
ERROR = ErrorBody(503, "server_error", "engine_failed", "It failed.")
MODELS = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(ResponseStreamEvent)[0])
}
BEGIN = ["response.created", "response.in_progress"]
TEXT = ["response.output_item.added", "response.content_part.added", "response.output_text.delta"]
TEXT_END = ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
REFUSAL = [*TEXT[:2], "response.refusal.delta"]
REFUSAL_END = ["response.refusal.done", *TEXT_END[1:]]
THOUGHT = [*TEXT[:2], "response.reasoning_text.delta"]
THOUGHT_END = ["response.reasoning_text.done", *TEXT_END[1:]]
CALL = [
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
]
CUSTOM = [each.replace("function_call_arguments", "custom_tool_call_input") for each in CALL]
NOW = MadeCall(0, "call_1", "now", "{}")
RUN = MadeCall(1, "call_2", "run", '{"input": "ls"}')
TOOLS = {"tools": [{"type": "function", "name": "now"}, {"type": "custom", "name": "run"}]}
TOP = TokenLogprobs(1, -0.5, b"a", ((1, -0.5, b"a"),))


def stream(data: bytes, *, checked: bool = True) -> list[dict[str, Any]]:
    """The events; each must be what the official client's model of its type demands."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        name, fields = block.split("\n")[-2:]
        event = json.loads(fields.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if checked:
            MODELS[event["type"]].model_validate(event, strict=True)
        found.append(event)
    assert [each["sequence_number"] for each in found] == list(range(len(found)))
    return found


TABLE: list[tuple[str, list[ResponseEvent], list[str]]] = [
    (
        "text",
        [Delta(0, "Hel", (1,)), Delta(0, "lo", (2,), finish_reason="stop"), DONE],
        [*TEXT, TEXT[-1], *TEXT_END, "response.completed"],
    ),
    ("nothing", [Delta(0, "", (), finish_reason="stop"), DONE], [*TEXT[:2], *TEXT_END, "response.completed"]),
    ("cut", [Delta(0, "H", (1,), finish_reason="length"), DONE], [*TEXT, *TEXT_END, "response.incomplete"]),
    ("cut before a word", [Delta(0, "", (1,), finish_reason="length"), DONE], ["response.incomplete"]),
    (
        "reasoning",
        [Delta(0, "", (), reasoning="h"), Delta(0, "H", (), reasoning="m", finish_reason="stop"), DONE],
        [*THOUGHT, THOUGHT[-1], *THOUGHT_END, *TEXT, *TEXT_END, "response.completed"],
    ),
    (
        "a refusal",
        [Delta(0, "I can", (), refuses=True), Delta(0, "not.", (), finish_reason="stop", refuses=True), DONE],
        [*REFUSAL, REFUSAL[-1], *REFUSAL_END, "response.completed"],
    ),
    (
        "a refusal after a text",
        [Delta(0, "H", ()), Delta(0, "No", (), refuses=True), Delta(0, "", (), finish_reason="stop"), DONE],
        [*TEXT, *TEXT_END, *REFUSAL, *REFUSAL_END, "response.completed"],
    ),
    (
        "a text after a refusal",
        [Delta(0, "No", (), refuses=True), Delta(0, "H", (), finish_reason="stop"), DONE],
        [*REFUSAL, *REFUSAL_END, *TEXT, *TEXT_END, "response.completed"],
    ),
    (
        "calls",
        [Delta(0, "H", (1,), calls=(NOW, RUN)), Delta(0, "", (), finish_reason="tool_calls"), DONE],
        [*TEXT, *TEXT_END, *CALL, *CUSTOM, "response.completed"],
    ),
    (
        "text after a call",
        [Delta(0, "", (1,), calls=(NOW,)), Delta(0, "H", (), finish_reason="tool_calls"), DONE],
        [*CALL, *TEXT, *TEXT_END, "response.completed"],
    ),
    (
        "log-probabilities",
        [Delta(0, "a", (1,), (TOP,)), Delta(0, "", (2,), (), "stop"), DONE],
        [*TEXT, *TEXT_END, "response.completed"],
    ),
    ("a failure within a text", [Delta(0, "H", (1,)), Failed(ERROR, USAGE)], [*TEXT, *TEXT_END, "response.failed"]),
    ("a failure at once", [Failed(ERROR, USAGE)], ["response.failed"]),
]


@pytest.mark.parametrize(("events", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_events_of_a_stream(events: list[ResponseEvent], expected: list[str]) -> None:
    renderer = ResponseRenderer(IDENTITY, asked(**TOOLS), None)
    found = stream(renderer.render([START, *events]))
    assert [each["type"] for each in found] == [*BEGIN, *expected]
    assert (found[-1]["response"]["usage"] or {}).get("total_tokens") == USAGE.prompt_tokens + USAGE.completion_tokens
    done = [each["item"] for each in found if each["type"] == "response.output_item.done"]
    assert done == found[-1]["response"]["output"]
    assert renderer.ended
    assert renderer.failed == isinstance(events[-1], Failed)
    assert json.loads(renderer.whole) == found[-1]["response"]


@pytest.mark.parametrize("events", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_its_end_is_the_whole_response(events: list[ResponseEvent]) -> None:
    if isinstance(events[-1], Failed):
        return
    renderer = ResponseRenderer(IDENTITY, asked(**TOOLS), None)
    renderer.render([START, *events])
    collected = WholeResponse()
    for event in events[:-1]:
        assert isinstance(event, Delta)
        collected.take(event)
    assert renderer.whole == response_body(IDENTITY, [collected], USAGE, SERVED, asked(**TOOLS))


@pytest.mark.parametrize("events", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_it_does_not_matter_what_is_rendered_together(events: list[ResponseEvent]) -> None:
    together = ResponseRenderer(IDENTITY, asked(**TOOLS), 0).render([START, *events])
    apart = ResponseRenderer(IDENTITY, asked(**TOOLS), 0)
    assert b"".join([apart.render([event]) for event in [START, *events]]) == together
    for after in range(together.count(b"id: ") + 1):
        rest = ResponseRenderer(IDENTITY, asked(**TOOLS), after).render([START, *events])
        assert rest == b"".join([b"id: " + each for each in together.split(b"id: ")[after + 1 :]])


def test_content_grows_to_what_the_end_says() -> None:
    events = [
        Delta(0, "", (), reasoning="h\n"),
        Delta(0, "a\u2028", (1,), (TOP,)),
        Delta(0, "", (2,), (), "stop"),
        DONE,
    ]
    found = stream(ResponseRenderer(IDENTITY, asked(), None).render([START, *events]))
    response = Response.model_validate(found[-1]["response"], strict=True)
    texts = {kind: "".join([each["delta"] for each in found if each["type"] == kind]) for kind in (TEXT[2], THOUGHT[2])}
    assert texts == {TEXT[2]: response.output_text, THOUGHT[2]: "h\n"}
    delta = next(each for each in found if each["type"] == TEXT[2])
    assert delta["logprobs"][0]["top_logprobs"][0]["token"] == "a"
    message = response.output[1]
    assert isinstance(message, responses.ResponseOutputMessage)
    assert message.content[0].logprobs is not None
    items = [each["item_id"] for each in found if "item_id" in each]
    assert sum(before != after for before, after in pairwise(items)) == 1


def test_a_stream_that_breaks_off() -> None:
    assert stream(break_off(ERROR, "r", None)) == [
        {
            "message": "It failed.",
            "type": "error",
            "param": None,
            "code": "engine_failed",
            "sequence_number": 0,
        }
    ]
    renderer = ResponseRenderer(IDENTITY, asked(), None)
    data = renderer.render([START, Delta(0, "Hel", (1,))]) + break_off(ERROR, "r", renderer)
    *_, item, last = stream(data)
    assert (item["item"]["status"], last["type"]) == ("incomplete", "response.failed")
    assert last["response"]["error"]["reason"] == "engine_failed"
    assert last["response"]["output"][0]["content"][0]["text"] == "Hel"
