"""Tools in a chat request: the tools offered, `tool_choice`, and the calls of earlier answers."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from actors.api.request import CallTurn
from engine.text.tool_calls import Tool, ToolSet
from gateway.errors import BadField
from gateway.openai.requests.fault import fault
from gateway.openai.requests.neutral import field_schema

MAX_TOOLS = 128
_MAX_CALLS = 128
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
ToolName = Annotated[str, field_schema(pattern=f"^{_NAME.pattern}$")]


ToolWord = Annotated[str, field_schema(enum=["none", "auto", "required"])]
"""`tool_choice` as a string."""


class FunctionBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`tools[].function`."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`tools[]`."""

    type: Annotated[str, field_schema(enum=["function"])]
    function: FunctionBody | None = None


OfferedTool = Annotated[ToolBody, field_schema(required=["function"], properties={"function": {"type": "object"}})]


class NamedFunction(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`tool_choice.function`."""

    name: str


class NamedChoice(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`tool_choice` as an object."""

    type: str
    function: NamedFunction | None = None


class EarlierFunction(msgspec.Struct, forbid_unknown_fields=True):
    """`tool_calls[].function` in a message."""

    name: str
    arguments: str
    provider_specific_fields: Any = None
    """LiteLLM's; without effect."""


class EarlierCall(msgspec.Struct, forbid_unknown_fields=True):
    """`tool_calls[]` in a message; clients that collect a stream's chunks leave `index` in it."""

    id: str
    type: str = "function"
    function: EarlierFunction | None = None
    index: int | None = None
    extra_content: dict[str, Any] | None = None
    """Gemini's; returned to an upstream unchanged."""
    provider_specific_fields: Any = None
    """LiteLLM's; without effect."""


def tool_set(
    tools: Sequence[ToolBody] | None, choice: str | NamedChoice | None, parallel: bool | None
) -> ToolSet | None:
    """The tools that the model may call, None without any. Raises `BadField`."""
    if not tools:
        if choice not in {None, "none", "auto"} if not isinstance(choice, NamedChoice) else True:
            raise fault("tool_choice", "asks for a call, but 'tools' offers nothing to call.")
        return None
    offered = tuple([_tool(f"tools[{index}]", tool) for index, tool in enumerate(tools)])
    names = check_tools(offered)
    parallel = parallel is not False
    match choice:
        case None | "auto":
            return ToolSet(offered, "auto", parallel=parallel)
        case "none":
            return None
        case "required":
            return ToolSet(offered, "required", parallel=parallel)
        case NamedChoice(type="function", function=NamedFunction(name=name)):
            if name not in names:
                raise fault("tool_choice", f"names '{name[:64]}', which is not among 'tools'.")
            return ToolSet(offered, "required", only=name, parallel=False)
        case _:
            raise fault(
                "tool_choice", 'must be "none", "auto", "required", or {"type": "function", "function": {"name": …}}.'
            )


def earlier_calls(where: str, calls: Sequence[EarlierCall]) -> tuple[CallTurn, ...]:
    """The calls in an assistant's message. Raises `BadField`."""
    if len(calls) > _MAX_CALLS:
        raise fault(where, f"must hold at most {_MAX_CALLS} calls.")
    return tuple([_earlier(f"{where}[{index}]", call) for index, call in enumerate(calls)])


def check_tools(offered: Sequence[Tool]) -> frozenset[str]:
    """The names of the tools. Raises `BadField` for too many, and for two of the same name."""
    if len(offered) > MAX_TOOLS:
        raise fault("tools", f"must hold at most {MAX_TOOLS} tools, not {len(offered)}.")
    names = frozenset([tool.name for tool in offered])
    if len(names) < len(offered):
        raise BadField("tools", "Two tools have the same name: each function's name must be its own.")
    return names


def function_tool(
    name: str, description: str | None, parameters: dict[str, Any] | None, *, strict: bool, at: tuple[str, str]
) -> Tool:
    """A tool. Raises `BadField`; `at`: the fields that hold the name and the parameters."""
    if not _NAME.fullmatch(name):
        raise fault(at[0], "must be 1 to 64 letters, digits, underscores, dots or hyphens.")
    parameters = parameters or {"type": "object", "properties": {}, "additionalProperties": False}
    if parameters.get("type", "object") != "object":
        raise fault(at[1], "must be the JSON Schema of an object.")
    fields: dict[str, Any] = {"name": name}
    if description is not None:
        fields["description"] = description
    fields["parameters"] = parameters
    definition = {"type": "function", "function": fields}
    return Tool(name, definition, {**parameters, "type": "object"}, strict=strict)


def _tool(where: str, tool: ToolBody) -> Tool:
    function = tool.function
    if tool.type != "function" or function is None:
        raise BadField(
            f"{where}.type", f"'{where}' must be a function: {{\"type\": \"function\", \"function\": {{…}}}}.",
            "unsupported_parameter",
        )  # fmt: skip
    at = (f"{where}.function.name", f"{where}.function.parameters")
    return function_tool(function.name, function.description, function.parameters, strict=bool(function.strict), at=at)


def _earlier(where: str, call: EarlierCall) -> CallTurn:
    function = call.function
    if call.type != "function" or function is None:
        raise BadField(f"{where}.type", f"'{where}' must be the call of a function.", "unsupported_parameter")
    arguments = call_arguments(f"{where}.function.arguments", function.arguments)
    return CallTurn(call.id, function.name, arguments, call.extra_content, function.arguments)


def call_arguments(where: str, text: str) -> dict[str, Any]:
    """The arguments of an earlier call. Raises `BadField`."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise fault(where, f"must be the text of a JSON object: {error}.") from None
