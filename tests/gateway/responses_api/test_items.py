"""Input items become chat messages."""

from typing import Any

import pytest

from actors.api.request import CallTurn, ChatMessage
from gateway.errors import BadField
from gateway.responses_api.items import check_answers, items_of, messages_of

CALL = {"type": "function_call", "call_id": "c1", "name": "now", "arguments": '{"zone": "UTC"}'}
TURN = CallTurn("c1", "now", {"zone": "UTC"}, text='{"zone": "UTC"}')
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "noon"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "phase": "final_answer",
    "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}],
}


def assistant(text: str, *calls: CallTurn, reasoning: str = "") -> ChatMessage:
    written = {"reasoning_content": reasoning} if reasoning else {}
    return ChatMessage("assistant", text, tool_calls=calls, reasoning=reasoning, written=written)


READ: list[tuple[str, Any, list[ChatMessage]]] = [
    ("a text", "Hi", [ChatMessage("user", "Hi")]),
    ("without a type", [{"role": "developer", "content": "Be brief."}], [ChatMessage("developer", "Be brief.")]),
    (
        "parts are joined",
        [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]}],
        [ChatMessage("user", "a\nb")],
    ),
    ("an earlier answer as it came", [SAID], [assistant("Hi")]),
    (
        "a refusal",
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}],
        [assistant("No.")],
    ),
    (
        "a turn is one message",
        [THOUGHT, SAID, CALL, RESULT],
        [assistant("Hi", TURN, reasoning="hm"), ChatMessage("tool", "noon", tool_call_id="c1")],
    ),
    (
        "calls at once",
        [CALL, {**CALL, "call_id": "c2", "id": "fc_2", "status": "completed", "async": False}],
        [assistant("", TURN, CallTurn("c2", "now", {"zone": "UTC"}, text='{"zone": "UTC"}'))],
    ),
    ("two answers are two messages", [SAID, SAID], [assistant("Hi"), assistant("Hi")]),
    ("reasoning begins a turn", [CALL, THOUGHT, SAID], [assistant("", TURN), assistant("Hi", reasoning="hm")]),
    ("reasoning alone is none", [THOUGHT, {"role": "user", "content": "Hi"}], [ChatMessage("user", "Hi")]),
    (
        "a custom tool",
        [
            {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "ls"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "a b"}]},
        ],
        [assistant("", CallTurn("c", "run", {"input": "ls"})), ChatMessage("tool", "a b", tool_call_id="c")],
    ),
    (
        "a summary",
        [{"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]}, SAID],
        [assistant("Hi", reasoning="hm")],
    ),
]


@pytest.mark.parametrize(("items", "messages"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_items_are_read(items: Any, messages: list[ChatMessage]) -> None:
    assert messages_of(items_of(items)) == tuple(messages)


REFUSED: list[tuple[Any, str, str]] = [
    ([{"type": "web_search_call", "id": "w"}], "input[0].type", "unsupported_parameter"),
    ([{"type": "item_reference", "id": "w"}], "input[0].type", "unsupported_parameter"),
    ([{"role": "user"}], "input[0].content", "missing_field"),
    ([{"role": "critic", "content": "a"}], "input[0].role", "invalid_type"),
    ([{"role": "user", "content": "a", "name": "b"}], "input[0].name", "unknown_field"),
    ([{"type": ["a"]}], "input[0].type", "unsupported_parameter"),
    ([SAID, {**CALL, "arguments": "{"}], "input[1].arguments", "invalid_value"),
    ([{**CALL, "call_id": None}], "input[0].call_id", "invalid_type"),
    (
        [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}],
        "input[0].content[0].image_url",
        "invalid_value",
    ),
    (
        [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}],
        "input[0].content[0].file_id",
        "unsupported_parameter",
    ),
    ([{"role": "user", "content": [{"type": "input_text"}]}], "input[0].content[0].text", "missing_field"),
    ([{**RESULT, "output": [{"type": "input_image"}]}], "input[0].output[0].image_url", "missing_field"),
    ([{"role": "system", "content": [{"type": "input_image"}]}], "input[0].content[0].type", "invalid_value"),
    ([{**THOUGHT, "encrypted_content": "x"}], "input[0].encrypted_content", "unsupported_parameter"),
    ([{"role": "user", "content": "a"}] * 2049, "input", "invalid_value"),
]


@pytest.mark.parametrize(("items", "param", "code"), REFUSED)
def test_what_cannot_be_read_is_named(items: Any, param: str, code: str) -> None:
    with pytest.raises(BadField) as refused:
        messages_of(items_of(items))
    assert (refused.value.body.param, refused.value.body.code) == (param, code)


def test_an_output_belongs_to_a_call() -> None:
    check_answers(messages_of(items_of([CALL, RESULT])))
    for items in ([RESULT], [RESULT, CALL], [CALL, {**RESULT, "call_id": "c2"}]):
        with pytest.raises(BadField, match="No tool call found"):
            check_answers(messages_of(items_of(items)))
