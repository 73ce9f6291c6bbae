"""The conversation: `system` and `messages` as the turns of a chat."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from actors.api.content import ContentPart, TextPart, content_of
from actors.api.request import CallTurn, ChatMessage
from gateway.anthropic.blocks import PART_KINDS, Block, Content, block_parts, parts_of, text_of, texts_of
from gateway.errors import BadField
from gateway.openai.requests.chat_request import MAX_MESSAGES
from gateway.openai.requests.fault import fault
from gateway.openai.requests.json_body import converted

_BETWEEN_TURNS = "\n\n"
"""Between the texts of neighbouring turns of one role, which the API makes one turn."""
_ERROR = "Error: "
"""Before the text of a tool's result that is an error: chat templates have no other place for it."""


class MessageTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message as the client wrote it."""

    role: str
    content: Content


class _ToolUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    id: str
    name: str
    input: dict[str, Any]
    cache_control: dict[str, Any] | None = None
    """Accepted without effect: the chat API has no place for it."""
    caller: Any = None
    toolset_name: str | None = None
    extra_content: dict[str, Any] | None = None
    """Ours: what an upstream wants back, see `MadeCall.extra`."""


class _ToolResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    tool_use_id: str
    content: Content | None = None
    is_error: bool | None = None
    cache_control: dict[str, Any] | None = None
    toolset_name: str | None = None


class _ThinkingBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    thinking: str
    signature: str = ""


class _RedactedThinking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    data: str


BLOCK_KINDS: Mapping[str, type[msgspec.Struct]] = {
    **PART_KINDS,
    "tool_use": _ToolUse,
    "tool_result": _ToolResult,
    "thinking": _ThinkingBlock,
    "redacted_thinking": _RedactedThinking,
}
"""Content blocks by their `type`, for the API's description."""


def conversation(
    system: Content | None, turns: Sequence[MessageTurn], last: dict[str, Any] | None = None
) -> tuple[ChatMessage, ...]:
    """The turns, neighbours of one role joined. Raises `BadField`. `last`: the `cache_control` of the last one."""
    if not turns:
        raise fault("messages", "must hold at least one message.")
    if len(turns) > MAX_MESSAGES:
        raise fault("messages", f"must hold at most {MAX_MESSAGES} messages.")
    if turns[-1].role == "assistant":
        raise BadField(
            "messages",
            "The last of 'messages' must not be the assistant's: this server does not continue a text (prefill).",
            "unsupported_parameter",
        )
    messages: list[ChatMessage] = []
    if system:
        messages.append(_message("system", texts_of("system", system)))
    called: set[str] = set()
    for index, turn in enumerate(turns):
        where = f"messages[{index}]"
        match turn.role:
            case "user":
                for message in _user(f"{where}.content", turn.content, called):
                    _append(messages, message)
            case "assistant":
                message = _assistant(f"{where}.content", turn.content)
                called.update([call.id for call in message.tool_calls])
                _append(messages, message)
            case "system":
                messages.append(_message("system", texts_of(f"{where}.content", turn.content)))
            case _:
                raise fault(f"{where}.role", 'must be "user", "assistant" or "system".')
    if last is not None:
        messages[-1] = _marked(messages[-1], last)
    return tuple(messages)


def _append(messages: list[ChatMessage], message: ChatMessage) -> None:
    before = messages[-1] if messages else None
    if before is None or before.role != message.role or message.role == "tool" or before.tool_calls:
        messages.append(message)
        return
    between = _BETWEEN_TURNS if before.content and message.content else ""
    parts: tuple[ContentPart, ...] = ()
    if before.parts or message.parts:
        parts = (*_parts(before), *([TextPart(between)] if between else ()), *_parts(message))
    messages[-1] = msgspec.structs.replace(
        message,
        content=before.content + between + message.content,
        parts=parts,
        reasoning=before.reasoning + message.reasoning,
        written={**before.written, **message.written},
    )


def _user(where: str, content: Content, called: set[str]) -> list[ChatMessage]:
    """The tools' results and the texts, in their order."""
    if isinstance(content, str):
        return [ChatMessage("user", content)]
    messages: list[ChatMessage] = []
    texts: list[ContentPart] = []
    for index, block in enumerate(content):
        at = f"{where}[{index}]"
        if block.get("type") != "tool_result":
            texts += block_parts(at, block)
            continue
        if texts:
            messages.append(_message("user", texts))
            texts = []
        result = converted(block, _ToolResult, at)
        if result.tool_use_id not in called:
            raise fault(f"{at}.tool_use_id", "does not name a 'tool_use' of an earlier assistant message.")
        said = parts_of(f"{at}.content", result.content or "")
        if result.is_error:
            first = said[0] if said else None
            if isinstance(first, TextPart):
                said[0] = msgspec.structs.replace(first, text=_ERROR + first.text)
            else:
                said.insert(0, TextPart(_ERROR))
        if result.cache_control is not None and said:
            said[-1] = msgspec.structs.replace(said[-1], cache_control=result.cache_control)
        messages.append(msgspec.structs.replace(_message("tool", said), tool_call_id=result.tool_use_id))
    if texts or not messages:
        messages.append(_message("user", texts))
    return messages


def _assistant(where: str, content: Content) -> ChatMessage:
    if isinstance(content, str):
        return ChatMessage("assistant", content)
    texts: list[ContentPart] = []
    calls: list[CallTurn] = []
    thoughts: list[str] = []
    for index, block in enumerate(content):
        at = f"{where}[{index}]"
        match block.get("type"):
            case "tool_use":
                calls.append(_call(at, block))
            case "thinking":
                thoughts.append(converted(block, _ThinkingBlock, at).thinking)
            case "redacted_thinking":
                # Encrypted by who made it: no model here can read it.
                converted(block, _RedactedThinking, at)
            case _:
                texts.append(text_of(at, block))
    reasoning = "".join(thoughts)
    # Upstreams get it under the name that most of them use.
    written = {"reasoning_content": reasoning} if reasoning else {}
    return msgspec.structs.replace(
        _message("assistant", texts), tool_calls=tuple(calls), reasoning=reasoning, written=written
    )


def _call(where: str, block: Block) -> CallTurn:
    use = converted(block, _ToolUse, where)
    if use.caller is not None and use.caller != {"type": "direct"}:
        raise fault(f"{where}.caller", "of another type than direct is not supported.", "unsupported_parameter")
    return CallTurn(use.id, use.name, use.input, use.extra_content)


def _message(role: Literal["system", "user", "assistant", "tool"], parts: Sequence[ContentPart]) -> ChatMessage:
    content, kept = content_of([part for part in parts if not isinstance(part, TextPart) or part.text], role)
    return ChatMessage(role, content, parts=kept)


def _parts(message: ChatMessage) -> tuple[ContentPart, ...]:
    return message.parts or ((TextPart(message.content),) if message.content else ())


def _marked(message: ChatMessage, mark: dict[str, Any]) -> ChatMessage:
    """With a cache breakpoint at its end, if it has none there."""
    parts = _parts(message)
    if not parts or parts[-1].cache_control is not None:
        return message
    return msgspec.structs.replace(message, parts=(*parts[:-1], msgspec.structs.replace(parts[-1], cache_control=mark)))
