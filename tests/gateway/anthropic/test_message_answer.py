"""The whole message: its content, its end, its usage."""

from typing import Any

import msgspec
import pytest

from actors.api.request import ChatMessage, ChatPrompt, ParsedBody, View
from actors.api.response import Delta, MadeCall, Usage
from engine.sampling.params import SamplingParams
from gateway.anthropic.message_answer import message_body, usage_counts
from gateway.openai.responses.completion import Choice, Identity
from tests.gateway.fakes import SERVED

IDENTITY = Identity("abc", "penstock", 1_700_000_000, "fp_x")
CALL = MadeCall(0, "call_1", "clock", '{"zone":\n "UTC", "n": 123456789012345678901234567890}')


def asked(*stops: str, reasoning: bool = True) -> ParsedBody:
    prompt = ChatPrompt((ChatMessage("user", "Hi"),))
    params = SamplingParams(max_tokens=9, stop=stops)
    return ParsedBody(model="penstock", prompts=(prompt,), params=params, view=View(reasoning=reasoning))


def said(*deltas: Delta, body: ParsedBody | None = None) -> dict[str, Any]:
    choice = Choice()
    for delta in deltas:
        choice.take(delta)
    answer = message_body(IDENTITY, [choice], Usage(9, 4, 5), SERVED, body or asked())
    return msgspec.json.decode(answer)


def test_a_message() -> None:
    message = said(Delta(0, "Hel", (1,)), Delta(0, "lo", (2,), (), "stop"))
    assert message.pop("penstock")["rung"] == "small"
    assert message == {
        "id": "msg_abc",
        "type": "message",
        "role": "assistant",
        "model": "penstock",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 5,
            "output_tokens": 4,
        },
    }


@pytest.mark.parametrize(
    ("reason", "stop", "expected"),
    [
        ("stop", None, ("end_turn", None)),
        ("stop", "x", ("stop_sequence", "x")),
        ("stop", "what an upstream writes", ("end_turn", None)),
        ("stop", 7, ("end_turn", None)),
        ("length", None, ("max_tokens", None)),
        ("content_filter", None, ("refusal", None)),
        ("tool_calls", None, ("tool_use", None)),
        ("tool_calls", "x", ("tool_use", None)),
    ],
)
def test_the_end(reason: str, stop: str | int | None, expected: tuple[str, str | None]) -> None:
    message = said(Delta(0, "a", (1,), (), reason, stop), body=asked("y", "x"))
    assert (message["stop_reason"], message["stop_sequence"]) == expected


@pytest.mark.parametrize(("prompt", "cached", "expected"), [(9, 0, (9, 0)), (9, 9, (0, 9)), (9, 12, (0, 9))])
def test_the_prompt_is_counted_once(prompt: int, cached: int, expected: tuple[int, int]) -> None:
    counts = usage_counts(Usage(prompt, 1, cached))
    assert (counts["input_tokens"], counts["cache_read_input_tokens"]) == expected


def test_reasoning_text_and_calls_are_blocks() -> None:
    deltas = [
        Delta(0, "", (), reasoning="Hm"),
        Delta(0, "Yes", (1,), reasoning="."),
        Delta(0, "", (2,), (), "tool_calls", calls=(CALL, msgspec.structs.replace(CALL, id="c2", extra={"a": 1}))),
    ]
    zone = {"zone": "UTC", "n": 123456789012345678901234567890}
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "Yes"},
        {"type": "tool_use", "id": "call_1", "name": "clock", "input": zone},
        {"type": "tool_use", "id": "c2", "name": "clock", "input": zone, "extra_content": {"a": 1}},
    ]
    assert said(*deltas)["content"] == blocks
    assert said(*deltas, body=asked(reasoning=False))["content"] == blocks[1:]


def test_nothing_said_is_no_block() -> None:
    assert said(Delta(0, "", (1,), (), "stop"))["content"] == []


def test_a_refusal_is_a_text_that_ends_as_one() -> None:
    message = said(Delta(0, "No.", (), refuses=True), Delta(0, "", (), (), "stop", refuses=True))
    assert (message["content"], message["stop_reason"]) == ([{"type": "text", "text": "No."}], "refusal")
