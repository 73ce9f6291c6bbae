"""The tools of a request: functions, and custom tools as functions with one argument."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.text.tool_calls import Tool, ToolSet
from gateway.errors import BadField
from gateway.openai.requests.fault import fault
from gateway.openai.requests.json_body import converted
from gateway.openai.requests.tools_request import check_tools, function_tool
from gateway.responses_api.items import CUSTOM_INPUT

_CHOICES = 'must be "none", "auto", "required", or name a function, a custom tool or allowed_tools.'


class _Offered(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields that other kinds of caller need are accepted with values that change nothing."""

    type: str
    name: str
    description: str | None = None
    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None
    asynchronous: bool | None = msgspec.field(default=None, name="async")


class OfferedFunction(_Offered, kw_only=True):
    """A function."""

    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    output_schema: dict[str, Any] | None = None


class CustomFormat(msgspec.Struct, forbid_unknown_fields=True):
    """The form of a custom tool's input."""

    type: str
    syntax: str | None = None
    definition: str | None = None


class CustomTool(_Offered, kw_only=True):
    """A tool whose input is text."""

    format: CustomFormat | None = None


TOOL_KINDS: Mapping[str, type[msgspec.Struct]] = {"function": OfferedFunction, "custom": CustomTool}
"""By `type`."""


class ToolChoice(msgspec.Struct, forbid_unknown_fields=True):
    """`tool_choice` as an object."""

    type: str
    name: str | None = None
    mode: str | None = None
    tools: list[dict[str, Any]] | None = None


def tool_set(
    tools: Sequence[Mapping[str, Any]] | None, choice: str | Mapping[str, Any] | None, parallel: bool | None
) -> ToolSet | None:
    """The tools that the model may call, None without any. Raises `BadField`."""
    if not tools:
        if choice not in {None, "none", "auto"} if not isinstance(choice, Mapping) else True:
            raise fault("tool_choice", "asks for a call, but 'tools' offers nothing to call.")
        return None
    offered = tuple([_tool(f"tools[{index}]", tool) for index, tool in enumerate(tools)])
    names, at_once = check_tools(offered), parallel is not False
    if isinstance(choice, str | None):
        match choice:
            case None | "auto":
                return ToolSet(offered, "auto", parallel=at_once)
            case "none":
                return None
            case "required":
                return ToolSet(offered, "required", parallel=at_once)
            case _:
                raise fault("tool_choice", _CHOICES)
    chosen = converted(choice, ToolChoice, "tool_choice")
    match chosen.type:
        case "function" | "custom":
            _check_name("tool_choice.name", chosen.name, names)
            return ToolSet(offered, "required", only=chosen.name, parallel=False)
        case "allowed_tools":
            allowed = _allowed(chosen, names)
            few = tuple([tool for tool in offered if tool.name in allowed])
            return ToolSet(few, "required" if chosen.mode == "required" else "auto", parallel=at_once)
        case kind:
            raise fault("tool_choice.type", f"'{kind[:64]}': {_CHOICES}", "unsupported_parameter")


def custom_names(tools: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The names of the custom tools among them."""
    return frozenset([tool["name"] for tool in tools if tool.get("type") == "custom"])


def _allowed(choice: ToolChoice, names: frozenset[str]) -> frozenset[str]:
    if choice.mode not in {"auto", "required"}:
        raise fault("tool_choice.mode", 'must be "auto" or "required".')
    if not choice.tools:
        raise fault("tool_choice.tools", "must name at least one tool.", "missing_field")
    for index, tool in enumerate(choice.tools):
        _check_name(f"tool_choice.tools[{index}].name", tool.get("name"), names)
    return frozenset([tool["name"] for tool in choice.tools])


def _check_name(where: str, name: Any, names: frozenset[str]) -> None:
    if not isinstance(name, str) or name not in names:
        raise fault(where, f"names '{str(name)[:64]}', which is not among 'tools'.")


def _tool(where: str, tool: Mapping[str, Any]) -> Tool:
    match tool.get("type"):
        case "function":
            function = converted(tool, OfferedFunction, where)
            _check_plain(where, function)
            if function.output_schema:
                raise fault(f"{where}.output_schema", "is not supported by this server.", "unsupported_parameter")
            return _offered(where, function, function.parameters, strict=bool(function.strict))
        case "custom":
            custom = converted(tool, CustomTool, where)
            _check_plain(where, custom)
            return _as_function(where, custom)
        case kind:
            raise BadField(
                f"{where}.type",
                f"Tools of type '{str(kind)[:64]}' would run on the server, which has none: offer a function or a "
                "custom tool, and run it yourself.",
                "unsupported_parameter",
            )


def _check_plain(where: str, tool: _Offered) -> None:
    """Raises `BadField` for what would change how the tool is called."""
    for name, plain in (
        ("allowed_callers", tool.allowed_callers in (None, [], ["direct"])),
        ("defer_loading", not tool.defer_loading),
        ("async", not tool.asynchronous),
    ):
        if not plain:
            raise fault(f"{where}.{name}", "is not supported with that value.", "unsupported_parameter")


def _as_function(where: str, tool: CustomTool) -> Tool:
    text: dict[str, Any] = {"type": "string"}
    match tool.format:
        case None | CustomFormat(type="text"):
            strict = False
        case CustomFormat(type="grammar", syntax="regex", definition=str() as definition):
            text["pattern"], strict = f"^(?:{definition})$", True
        case CustomFormat(type="grammar", syntax="lark"):
            raise fault(
                f"{where}.format.syntax", 'must be "regex": a call cannot follow a Lark grammar.',
                "unsupported_parameter",
            )  # fmt: skip
        case _:
            raise fault(
                f"{where}.format",
                'must be {"type": "text"} or {"type": "grammar", "syntax": "regex", "definition": …}.',
            )
    parameters = {
        "type": "object",
        "properties": {CUSTOM_INPUT: text},
        "required": [CUSTOM_INPUT],
        "additionalProperties": False,
    }
    return _offered(where, tool, parameters, strict=strict)


def _offered(where: str, tool: _Offered, parameters: dict[str, Any] | None, *, strict: bool) -> Tool:
    at = (f"{where}.name", f"{where}.parameters")
    return function_tool(tool.name, tool.description, parameters, strict=strict, at=at)
