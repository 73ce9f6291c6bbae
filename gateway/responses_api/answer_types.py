"""The answers of the Responses API as types, of which the API's description is made.

The answers themselves are written in `response_object.py`, `output.py`, `stored.py` and `conversations.py`; tests hold
both to each other. Events: `event_types.py`.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from actors.api.response import Served
from gateway.openai.responses.answer_types import ChosenToken
from gateway.responses_api.output import Status
from gateway.responses_api.response_object import ResponseStatus


class OutputText(Struct, tag_field="type", tag="output_text"):
    """Text of a message."""

    text: str
    annotations: list[Any]
    logprobs: list[ChosenToken]


class OutputRefusal(Struct, tag_field="type", tag="refusal"):
    """The model's refusal, as some upstreams tell it apart."""

    refusal: str


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    """The model's reasoning."""

    text: str


class OutputMessage(Struct, tag_field="type", tag="message"):
    """A message of the assistant."""

    id: str
    status: Status
    role: Literal["assistant"]
    content: list[OutputText | OutputRefusal]


class OutputReasoning(Struct, tag_field="type", tag="reasoning"):
    """The model's reasoning."""

    id: str
    status: Status
    summary: list[Any]
    content: list[ReasoningText]
    encrypted_content: None


class OutputFunctionCall(Struct, tag_field="type", tag="function_call", kw_only=True):
    """A complete call of a function."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str
    extra_content: dict[str, Any] | UnsetType = UNSET


class OutputCustomCall(Struct, tag_field="type", tag="custom_tool_call", kw_only=True):
    """A complete call of a custom tool."""

    id: str
    status: Status
    call_id: str
    name: str
    input: str
    extra_content: dict[str, Any] | UnsetType = UNSET


AnsweredItem = OutputMessage | OutputReasoning | OutputFunctionCall | OutputCustomCall


class ResponseErrorFields(Struct, kw_only=True):
    """Why a response has failed."""

    message: str
    type: str
    param: str | None
    code: str
    """One of the API's few codes."""
    reason: str
    """Our own code."""
    upstream_code: str | UnsetType = UNSET
    stream: str | UnsetType = UNSET
    delivered_tokens: int | UnsetType = UNSET


class IncompleteDetails(Struct):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens", "content_filter"]


class ConversationName(Struct):
    """The conversation that a response belongs to."""

    id: str


class ReasoningShown(Struct):
    """What was asked for of the reasoning."""

    effort: str | None
    summary: None


class TextShown(Struct):
    """What was asked for of the text."""

    format: dict[str, Any]
    verbosity: Literal["low", "medium", "high"]


class InputDetails(Struct):
    """Of the input's tokens."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Struct):
    """Of the output's tokens."""

    reasoning_tokens: int


class ResponseUsage(Struct):
    """Exact tokens."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseAnswer(Struct, kw_only=True):
    """A response; beside its output it repeats the request."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    """Of a response that is complete."""
    model: str
    status: ResponseStatus
    error: ResponseErrorFields | None
    incomplete_details: IncompleteDetails | None
    output: list[AnsweredItem]
    usage: ResponseUsage | None
    penstock: Served | UnsetType = UNSET
    """When it has ended."""
    background: bool
    conversation: ConversationName | None
    frequency_penalty: float
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    presence_penalty: float
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ReasoningShown
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: TextShown
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    user: str | None


class DeletedResponse(Struct):
    """It is forgotten."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputTokens(Struct):
    """The length of a prompt."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class ItemList(Struct):
    """A page of items; those of the input have the form of the request."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ConversationAnswer(Struct):
    """A conversation."""

    id: str
    object: Literal["conversation"]
    created_at: int
    metadata: dict[str, str]


class DeletedConversation(Struct):
    """It is forgotten with its items."""

    id: str
    object: Literal["conversation.deleted"]
    deleted: Literal[True]
