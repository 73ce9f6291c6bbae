"""`tools` and `tool_choice`: what becomes of each, and what is refused."""

from typing import Any

import msgspec
import pytest

from engine.text.tool_calls import Tool, ToolSet
from gateway.anthropic.message_tools import MessageToolChoice, chosen_tools, offered_tools
from gateway.errors import BadField

SCHEMA = {"type": "object", "properties": {"zone": {"type": "string"}}}
CLOCK = {"name": "clock", "description": "The time", "input_schema": SCHEMA}
BELL = {"name": "bell", "input_schema": {}, "type": "custom", "strict": True}


def choice(kind: str, **more: object) -> MessageToolChoice:
    return msgspec.convert({"type": kind, **more}, MessageToolChoice)


def test_a_tool_is_a_function() -> None:
    clock, bell = offered_tools(
        [CLOCK, {**BELL, "cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}]
    )
    function = {"name": "clock", "description": "The time", "parameters": SCHEMA}
    assert clock == Tool("clock", {"type": "function", "function": function}, SCHEMA)
    assert (bell.strict, bell.parameters["additionalProperties"]) == (True, False)


TOOLS = offered_tools([CLOCK, BELL])


@pytest.mark.parametrize(
    ("tools", "chosen", "expected"),
    [
        ((), None, None),
        ((), choice("auto"), None),
        ((), choice("none"), None),
        (TOOLS, None, ToolSet(TOOLS)),
        (TOOLS, choice("auto"), ToolSet(TOOLS)),
        (TOOLS, choice("auto", disable_parallel_tool_use=True), ToolSet(TOOLS, parallel=False)),
        (TOOLS, choice("any"), ToolSet(TOOLS, "required")),
        (TOOLS, choice("any", disable_parallel_tool_use=True), ToolSet(TOOLS, "required", parallel=False)),
        (TOOLS, choice("tool", name="bell"), ToolSet(TOOLS, "required", only="bell", parallel=False)),
        (TOOLS, choice("none"), None),
    ],
)
def test_choices(tools: tuple[Tool, ...], chosen: MessageToolChoice | None, expected: ToolSet | None) -> None:
    assert chosen_tools(tools, chosen) == expected


@pytest.mark.parametrize(
    ("tools", "chosen", "field"),
    [
        ((), choice("any"), "tool_choice"),
        ((), choice("tool", name="bell"), "tool_choice"),
        (TOOLS, choice("required"), "tool_choice.type"),
        (TOOLS, choice("tool"), "tool_choice.name"),
        (TOOLS, choice("any", name="bell"), "tool_choice.name"),
        (TOOLS, choice("tool", name="gong"), "tool_choice.name"),
    ],
)
def test_choices_that_are_none(tools: tuple[Tool, ...], chosen: MessageToolChoice, field: str) -> None:
    with pytest.raises(BadField) as refused:
        chosen_tools(tools, chosen)
    assert refused.value.body.param == field


@pytest.mark.parametrize(
    ("tool", "field", "word"),
    [
        ({"type": "web_search_20250305", "name": "web_search", "max_uses": 3}, "tools[1].type", "web_search_20250305"),
        ({"type": "bash_20250124", "name": "bash"}, "tools[1].type", "bash_20250124"),
        ({**BELL, "type": ["custom"]}, "tools[1].type", "custom"),
        ({"name": "x"}, "tools[1].input_schema", "missing"),
        ({"input_schema": {}}, "tools[1].name", "missing"),
        ({**BELL, "colour": 1}, "tools[1].colour", "colour"),
        ({**BELL, "name": "a b"}, "tools[1].name", "letters"),
        ({**BELL, "input_schema": {"type": "string"}}, "tools[1].input_schema", "object"),
        ({**BELL, "allowed_callers": ["code_execution_20250825"]}, "tools[1].allowed_callers", "supported"),
        ({**BELL, "defer_loading": True}, "tools[1].defer_loading", "supported"),
        ({**BELL, "input_examples": [{}]}, "tools[1].input_examples", "supported"),
        (CLOCK, "tools", "same name"),
    ],
)
def test_tools_that_are_refused(tool: dict[str, Any], field: str, word: str) -> None:
    with pytest.raises(BadField, match=word) as refused:
        offered_tools([CLOCK, tool])
    assert refused.value.body.param == field


def test_what_has_no_effect_is_accepted() -> None:
    offered_tools([{**CLOCK, "allowed_callers": ["direct"], "defer_loading": False, "input_examples": []}])
