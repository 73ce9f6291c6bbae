"""Items of the Responses API, as input: messages, calls with their outputs, and reasoning become chat messages."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from actors.api.content import content_of
from actors.api.request import CallTurn, ChatMessage
from gateway.errors import BadField
from gateway.openai.requests.fault import fault
from gateway.openai.requests.json_body import converted
from gateway.openai.requests.neutral import field_schema
from gateway.openai.requests.tools_request import call_arguments
from gateway.responses_api.input_parts import Part, ThoughtPart, parts_of, text_of

CUSTOM_INPUT = "input"
"""The only argument of the function as which a custom tool is offered."""
_MAX_ITEMS = 2048


class _Item(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    type: str = "message"
    id: str | None = None
    status: str | None = None


class MessageItem(_Item, kw_only=True):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    phase: str | None = None


class _CallItem(_Item, kw_only=True):
    call_id: str
    name: str
    namespace: None = None
    caller: Any = None
    extra_content: dict[str, Any] | None = None
    asynchronous: Literal[False] | None = msgspec.field(default=None, name="async")


class FunctionCallItem(_CallItem, kw_only=True):
    """A call of an earlier answer."""

    arguments: str


class CustomCallItem(_CallItem, kw_only=True):
    """The same of a custom tool."""

    input: str


class CallOutputItem(_Item, kw_only=True):
    """What a call has returned."""

    call_id: str
    output: str | list[Part]
    name: str | None = None
    namespace: None = None
    caller: Any = None
    created_by: Any = None


class ReasoningItem(_Item, kw_only=True):
    """The reasoning of an earlier answer."""

    summary: list[ThoughtPart] = []
    content: list[ThoughtPart] | None = None
    encrypted_content: Annotated[str | None, field_schema(enum=[None])] = None


ITEM_KINDS: Mapping[str, type[_Item]] = {
    "message": MessageItem,
    "function_call": FunctionCallItem,
    "custom_tool_call": CustomCallItem,
    "function_call_output": CallOutputItem,
    "custom_tool_call_output": CallOutputItem,
    "reasoning": ReasoningItem,
}


def items_of(given: str | Sequence[Mapping[str, Any]] | None) -> tuple[Mapping[str, Any], ...]:
    """The input as a list of items, each with its type. Raises `BadField`."""
    if given is None:
        return ()
    if isinstance(given, str):
        return ({"type": "message", "role": "user", "content": given},)
    if len(given) > _MAX_ITEMS:
        raise fault("input", f"must hold at most {_MAX_ITEMS} items.")
    return tuple([{"type": "message", **item} for item in given])


def messages_of(
    items: Sequence[Mapping[str, Any]], field: str = "input", *, stored: int = 0
) -> tuple[ChatMessage, ...]:
    """The conversation that the items are, which are given in `field` after so many `stored` ones. Raises `BadField`.

    What the assistant said in one turn (reasoning, a text, calls) becomes one message.
    """
    turns = _Turns()
    for index, item in enumerate(items):
        where = field if index < stored else f"{field}[{index - stored}]"
        kind = ITEM_KINDS.get(item["type"]) if isinstance(item["type"], str) else None
        if kind is None:
            raise BadField(
                f"{where}.type", f"Items of type '{str(item['type'])[:64]}' are not supported by this server.",
                "unsupported_parameter",
            )  # fmt: skip
        turns.add(where, converted(item, kind, where))
    return turns.ended()


def check_answers(messages: Sequence[ChatMessage]) -> None:
    """Check that each output belongs to an earlier call. Raises `BadField`."""
    made: set[str] = set()
    for message in messages:
        made.update([call.id for call in message.tool_calls])
        if message.tool_call_id is not None and message.tool_call_id not in made:
            raise BadField(
                "input",
                f"No tool call found for the output with call_id '{message.tool_call_id[:64]}': send the call before "
                "it, or the 'previous_response_id' of the response that made it.",
            )


class _Turns:
    """The messages so far, and the assistant's turn that may go on."""

    def __init__(self) -> None:
        self._messages: list[ChatMessage] = []
        self._reasoning = ""
        self._text: str | None = None
        self._calls: list[CallTurn] = []

    def add(self, where: str, item: _Item) -> None:
        match item:
            case MessageItem(role="assistant"):
                if self._text is not None or self._calls:
                    self._end_turn()
                self._text = text_of(f"{where}.content", item.content)
            case MessageItem():
                self._end_turn()
                at = f"{where}.content"
                if item.role == "user":
                    content, parts = content_of(parts_of(at, item.content), "user")
                    self._messages.append(ChatMessage("user", content, parts=parts))
                else:
                    self._messages.append(ChatMessage(item.role, text_of(at, item.content, between="\n")))
            case FunctionCallItem():
                arguments = call_arguments(f"{where}.arguments", item.arguments)
                call = CallTurn(item.call_id, item.name, arguments, item.extra_content, item.arguments)
                self._calls.append(call)
            case CustomCallItem():
                self._calls.append(CallTurn(item.call_id, item.name, {CUSTOM_INPUT: item.input}, item.extra_content))
            case CallOutputItem():
                self._end_turn()
                content, parts = content_of(parts_of(f"{where}.output", item.output), "tool")
                self._messages.append(ChatMessage("tool", content, tool_call_id=item.call_id, parts=parts))
            case ReasoningItem():
                if self._text is not None or self._calls:
                    self._end_turn()
                self._reasoning += _reasoning(where, item)

    def ended(self) -> tuple[ChatMessage, ...]:
        self._end_turn()
        return tuple(self._messages)

    def _end_turn(self) -> None:
        if self._text is not None or self._calls:
            written = {"reasoning_content": self._reasoning} if self._reasoning else {}
            self._messages.append(
                ChatMessage(
                    "assistant",
                    self._text or "",
                    tool_calls=tuple(self._calls),
                    reasoning=self._reasoning,
                    written=written,
                )
            )
        # Reasoning that no answer followed says nothing to a model.
        self._reasoning, self._text, self._calls = "", None, []


def _reasoning(where: str, item: ReasoningItem) -> str:
    if item.encrypted_content is not None:
        raise fault(
            f"{where}.encrypted_content",
            "can be read only by the server that made it: leave the item out.",
            "unsupported_parameter",
        )
    return "".join([part.text or "" for part in (*item.summary, *(item.content or ()))])
