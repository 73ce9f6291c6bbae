"""The tools that a request offers, and which of them must be called."""

from typing import Any

import pytest

from engine.text.tool_calls import ToolSet
from gateway.errors import BadField
from gateway.responses_api.tools import custom_names, tool_set

NOW = {"type": "function", "name": "now", "description": "The time", "parameters": None, "strict": None}
RUN = {"type": "custom", "name": "run", "description": "A shell"}
BOTH = [NOW, RUN]


def summary(tools: ToolSet | None) -> Any:
    if tools is None:
        return None
    return [tool.name for tool in tools.tools], tools.choice, tools.only, tools.parallel


CHOICES: list[tuple[Any, bool | None, Any]] = [
    (None, None, (["now", "run"], "auto", None, True)),
    ("auto", False, (["now", "run"], "auto", None, False)),
    ("none", None, None),
    ("required", None, (["now", "run"], "required", None, True)),
    ({"type": "function", "name": "now"}, None, (["now", "run"], "required", "now", False)),
    ({"type": "custom", "name": "run"}, None, (["now", "run"], "required", "run", False)),
    (
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "now"}]},
        None,
        (["now"], "auto", None, True),
    ),
    (
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "run"}]},
        False,
        (["run"], "required", None, False),
    ),
]


@pytest.mark.parametrize(("choice", "parallel", "expected"), CHOICES)
def test_choices(choice: Any, parallel: bool | None, expected: Any) -> None:
    assert summary(tool_set(BOTH, choice, parallel)) == expected


def test_a_function_is_offered_as_in_chat() -> None:
    schema = {"type": "object", "properties": {"zone": {"type": "string"}}}
    made = tool_set([{**NOW, "parameters": schema, "strict": True}], None, None)
    assert made is not None
    tool = made.tools[0]
    function = {"name": "now", "description": "The time", "parameters": schema}
    assert tool.definition == {"type": "function", "function": function}
    assert (tool.parameters, tool.strict) == (schema, True)


@pytest.mark.parametrize(
    ("form", "text", "strict"),
    [
        (None, {"type": "string"}, False),
        ({"type": "text"}, {"type": "string"}, False),
        (
            {"type": "grammar", "syntax": "regex", "definition": "a|b"},
            {"type": "string", "pattern": "^(?:a|b)$"},
            True,
        ),
    ],
)
def test_a_custom_tool_is_a_function_of_one_text(form: Any, text: Any, strict: bool) -> None:
    made = tool_set([RUN if form is None else {**RUN, "format": form}], None, None)
    assert made is not None
    assert made.tools[0].parameters["properties"] == {"input": text}
    assert made.tools[0].strict is strict
    assert custom_names(BOTH) == {"run"}


def test_without_tools_nothing_is_called() -> None:
    assert tool_set([], "auto", None) is None


REFUSED: list[tuple[Any, Any, str, str]] = [
    (None, "required", "tool_choice", "invalid_value"),
    ([], {"type": "function", "name": "now"}, "tool_choice", "invalid_value"),
    (BOTH, "any", "tool_choice", "invalid_value"),
    (BOTH, {"type": "function", "name": "later"}, "tool_choice.name", "invalid_value"),
    (BOTH, {"type": "web_search_preview"}, "tool_choice.type", "unsupported_parameter"),
    (BOTH, {"type": "allowed_tools", "mode": "auto", "tools": []}, "tool_choice.tools", "missing_field"),
    (BOTH, {"type": "allowed_tools", "mode": "x", "tools": [NOW]}, "tool_choice.mode", "invalid_value"),
    (
        BOTH,
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]},
        "tool_choice.tools[0].name",
        "invalid_value",
    ),
    (
        BOTH,
        {"type": "allowed_tools", "mode": "auto", "tools": [{"name": []}]},
        "tool_choice.tools[0].name",
        "invalid_value",
    ),
    ([{"type": "web_search"}], None, "tools[0].type", "unsupported_parameter"),
    ([NOW, {"type": "mcp", "server_label": "x"}], None, "tools[1].type", "unsupported_parameter"),
    ([NOW, NOW], None, "tools", "invalid_value"),
    ([{**NOW, "name": "a b"}], None, "tools[0].name", "invalid_value"),
    ([{**NOW, "function": {}}], None, "tools[0].function", "unknown_field"),
    ([{**NOW, "parameters": {"type": "string"}}], None, "tools[0].parameters", "invalid_value"),
    ([{**NOW, "defer_loading": True}], None, "tools[0].defer_loading", "unsupported_parameter"),
    ([{**NOW, "async": True}], None, "tools[0].async", "unsupported_parameter"),
    ([{**NOW, "allowed_callers": ["programmatic"]}], None, "tools[0].allowed_callers", "unsupported_parameter"),
    ([{**NOW, "output_schema": {"type": "string"}}], None, "tools[0].output_schema", "unsupported_parameter"),
    (
        [{**RUN, "format": {"type": "grammar", "syntax": "lark", "definition": "start: a"}}],
        None,
        "tools[0].format.syntax",
        "unsupported_parameter",
    ),
    ([{**RUN, "format": {"type": "json"}}], None, "tools[0].format", "invalid_value"),
]


@pytest.mark.parametrize(("tools", "choice", "param", "code"), REFUSED)
def test_what_cannot_be_offered_is_named(tools: Any, choice: Any, param: str, code: str) -> None:
    with pytest.raises(BadField) as refused:
        tool_set(tools, choice, None)
    assert (refused.value.body.param, refused.value.body.code) == (param, code)
