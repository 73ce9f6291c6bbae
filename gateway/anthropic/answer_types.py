"""The answers of the Messages API as types, of which the API's description is made.

The answers themselves are written in `message_answer.py`, `message_events.py` and `model_list.py`; tests hold both to
each other.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from actors.api.response import Served

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]


class MessageErrorFields(Struct, kw_only=True):
    """What was wrong, and what to do."""

    type: str
    """Anthropic's class of error: invalid_request_error, authentication_error, rate_limit_error, overloaded_error …"""
    message: str
    code: str
    """Stable: what programs should look at."""
    param: str | UnsetType = UNSET
    upstream_code: str | UnsetType = UNSET
    stream: str | UnsetType = UNSET
    delivered_tokens: int | UnsetType = UNSET


class MessageErrorAnswer(Struct):
    """An error in the format of Anthropic's API."""

    type: Literal["error"]
    error: MessageErrorFields
    request_id: str


class MessageUsage(Struct):
    """Exact tokens. Those that the prefix cache supplied are not in `input_tokens`."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class AnsweredText(Struct, tag_field="type", tag="text"):
    """Text."""

    text: str


class AnsweredThinking(Struct, tag_field="type", tag="thinking"):
    """The model's reasoning."""

    thinking: str
    signature: str


class AnsweredToolUse(Struct, tag_field="type", tag="tool_use", kw_only=True):
    """A complete call."""

    id: str
    name: str
    input: dict[str, Any]
    extra_content: dict[str, Any] | UnsetType = UNSET


AnsweredBlock = AnsweredText | AnsweredThinking | AnsweredToolUse


class StopFields(Struct):
    """Why an answer ended."""

    stop_reason: StopReason | None
    stop_sequence: str | None


class AnthropicMessage(Struct, kw_only=True):
    """A whole message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnsweredBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage
    penstock: Served | UnsetType = UNSET
    """Not in `message_start`."""


class BlockText(Struct, tag_field="type", tag="text_delta"):
    """New text."""

    text: str


class BlockThinking(Struct, tag_field="type", tag="thinking_delta"):
    """New reasoning."""

    thinking: str


class BlockInput(Struct, tag_field="type", tag="input_json_delta"):
    """A call's input, as text."""

    partial_json: str


class MessageStart(Struct, tag_field="type", tag="message_start"):
    """The first event."""

    message: AnthropicMessage


class Ping(Struct, tag_field="type", tag="ping"):
    """Says nothing."""


class BlockStart(Struct, tag_field="type", tag="content_block_start"):
    """A block begins."""

    index: int
    content_block: AnsweredBlock


class BlockDelta(Struct, tag_field="type", tag="content_block_delta"):
    """More of a block."""

    index: int
    delta: BlockText | BlockThinking | BlockInput


class BlockStop(Struct, tag_field="type", tag="content_block_stop"):
    """A block ends."""

    index: int


class MessageDelta(Struct, tag_field="type", tag="message_delta"):
    """The end of the content."""

    delta: StopFields
    usage: MessageUsage
    penstock: Served


class MessageStop(Struct, tag_field="type", tag="message_stop"):
    """The last event."""


class MessageError(Struct, tag_field="type", tag="error"):
    """The last event of a stream that has failed."""

    error: MessageErrorFields
    request_id: str


MessageEvent = MessageStart | Ping | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | MessageError


class MessageTokens(Struct):
    """The length of a prompt."""

    input_tokens: int


class MessageModel(Struct):
    """A model in the format of Anthropic's API."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"]
    max_input_tokens: int | None
    description: str
    available: bool


class MessageModels(Struct):
    """A page of models in the format of Anthropic's API."""

    data: list[MessageModel]
    has_more: bool
    first_id: str | None
    last_id: str | None
