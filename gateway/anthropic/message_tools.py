"""`tools` and `tool_choice`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from engine.text.tool_calls import Tool, ToolSet
from gateway.errors import BadField
from gateway.openai.requests.fault import fault
from gateway.openai.requests.json_body import converted
from gateway.openai.requests.neutral import field_schema
from gateway.openai.requests.tools_request import ToolName, check_tools, function_tool

_CHOICES = ("auto", "any", "tool", "none")


class MessageTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool that the client runs."""

    name: ToolName
    input_schema: dict[str, Any]
    type: str | None = None
    description: str | None = None
    strict: bool | None = None
    cache_control: Any = None
    """Accepted without effect."""
    eager_input_streaming: bool | None = None
    """Accepted without effect: a call's input is sent when it is complete."""
    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None
    input_examples: list[Any] | None = None


class MessageToolChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tool_choice`."""

    type: Annotated[str, field_schema(enum=list(_CHOICES))]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


def offered_tools(tools: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """Raises `BadField`."""
    offered = tuple([_tool(f"tools[{index}]", each) for index, each in enumerate(tools)])
    check_tools(offered)
    return offered


def chosen_tools(tools: tuple[Tool, ...], choice: MessageToolChoice | None) -> ToolSet | None:
    """The tools that the model may call, None without any. Raises `BadField`."""
    kind = "auto" if choice is None else choice.type
    if kind not in _CHOICES:
        raise fault("tool_choice.type", 'must be "auto", "any", "tool" or "none".')
    name = None if choice is None else choice.name
    if (name is not None) != (kind == "tool"):
        raise fault("tool_choice.name", 'is required with the type "tool", and not allowed with others.')
    if not tools and kind in {"any", "tool"}:
        raise fault("tool_choice", "asks for a call, but 'tools' offers nothing to call.")
    if not tools or kind == "none":
        return None
    if name is not None:
        if name not in {tool.name for tool in tools}:
            raise fault("tool_choice.name", f"is '{name[:64]}', which is not among 'tools'.")
        return ToolSet(tools, "required", only=name, parallel=False)
    parallel = choice is None or not choice.disable_parallel_tool_use
    return ToolSet(tools, "required" if kind == "any" else "auto", parallel=parallel)


def _tool(where: str, given: Mapping[str, Any]) -> Tool:
    kind = given.get("type")
    if kind not in (None, "custom"):
        raise BadField(
            f"{where}.type",
            f"Tools of type '{str(kind)[:64]}' are not supported: this server runs no tools and knows none by name. "
            "Describe the tool by 'name' and 'input_schema'.",
            "unsupported_parameter",
        )
    tool = converted(given, MessageTool, where)
    if tool.allowed_callers not in (None, [], ["direct"]):
        raise _unsupported(f"{where}.allowed_callers")
    if tool.defer_loading:
        raise _unsupported(f"{where}.defer_loading")
    if tool.input_examples:
        raise _unsupported(f"{where}.input_examples")
    at = (f"{where}.name", f"{where}.input_schema")
    return function_tool(tool.name, tool.description, tool.input_schema, strict=bool(tool.strict), at=at)


def _unsupported(field: str) -> BadField:
    return fault(field, "is not supported by this server. Remove the field.", "unsupported_parameter")
