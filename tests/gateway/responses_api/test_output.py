"""The items of an answer: what follows what, and how each ends."""

import msgspec
import pytest

from actors.api.response import Delta, MadeCall
from engine.messages import TokenLogprobs
from gateway.responses_api.output import ResponseOutput

CALL = MadeCall(0, "call_1", "now", '{"zone": "UTC"}')
SPECIAL = TokenLogprobs(1, -0.5, b"", (), special=True)


def taken(*deltas: Delta, custom: frozenset[str] = frozenset()) -> ResponseOutput:
    output = ResponseOutput("r", custom)
    for delta in deltas:
        output.take(delta)
    return output


def test_items_follow_each_other() -> None:
    output = taken(
        Delta(0, "", (), reasoning="h"),
        Delta(0, "He", (), reasoning="m"),
        Delta(0, "y", (), calls=(CALL,)),
        Delta(0, "!", (), finish_reason="stop"),
    )
    items = output.fields("completed")
    assert [(item["type"], item["id"]) for item in items] == [
        ("reasoning", "rs_r00"),
        ("message", "msg_r01"),
        ("function_call", "fc_r02"),
        ("message", "msg_r03"),
    ]
    assert items[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert items[1]["content"][0]["text"] == "Hey"
    assert (items[2]["call_id"], items[2]["name"], items[2]["arguments"]) == ("call_1", "now", '{"zone": "UTC"}')


@pytest.mark.parametrize(
    ("reason", "cut"), [("stop", False), ("tool_calls", False), ("length", True), ("content_filter", True)]
)
def test_only_the_last_item_is_cut(reason, cut: bool) -> None:
    output = taken(Delta(0, "a", (), calls=(CALL,)), Delta(0, "b", (), finish_reason=reason))
    assert output.is_cut is cut
    states = [item["status"] for item in output.fields("incomplete")]
    assert states == ["completed", "completed", "incomplete"]


def test_a_call_is_always_complete() -> None:
    assert taken(Delta(0, "", (), calls=(CALL,))).fields("incomplete")[0]["status"] == "completed"


def test_special_tokens_show_nothing() -> None:
    assert taken(Delta(0, "", (1,), (SPECIAL,), "stop")).items == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"input": "ls"}', "ls"),
        ('{"command": "ls"}', '{"command": "ls"}'),
        ("ls", "ls"),
        ('{"input": 3}', '{"input": 3}'),
    ],
)
def test_the_input_of_a_custom_tool(arguments: str, expected: str) -> None:
    call = msgspec.structs.replace(CALL, arguments=arguments, extra={"a": 1})
    item = taken(Delta(0, "", (), calls=(call,)), custom=frozenset({"now"})).fields("completed")[0]
    assert (item["type"], item["id"][:4], item["input"], item["extra_content"]) == (
        "custom_tool_call",
        "ctc_",
        expected,
        {"a": 1},
    )
