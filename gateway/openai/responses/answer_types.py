"""The answers of the OpenAI endpoints as types, of which the API's description is made.

The answers themselves are written as bytes and dicts (`completion.py`, `sse.py`); tests hold both to each other.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from actors.api.response import Served

FinishWord = Literal["stop", "length", "content_filter", "tool_calls"]


class ErrorFields(Struct, kw_only=True):
    """What was wrong, and what to do."""

    message: str
    type: str
    """OpenAI's class of error: invalid_request_error, authentication_error, permission_error, rate_limit_error,
    insufficient_quota, server_error."""
    param: str | None
    """The field or header that was wrong."""
    code: str
    """Stable: what programs should look at."""
    upstream_code: str | UnsetType = UNSET
    """An upstream's own code, if it sent one."""
    stream: str | UnsetType = UNSET
    """The id of a kept answer that has broken off."""
    delivered_tokens: int | UnsetType = UNSET
    """How many tokens of a kept answer were delivered."""


class ErrorAnswer(Struct):
    """An error in the format of the OpenAI API."""

    error: ErrorFields


class PromptTokenDetails(Struct):
    """Of the prompt's tokens."""

    cached_tokens: int
    """Those that the prefix cache supplied."""


class CompletionTokenDetails(Struct):
    """Of the answer's tokens."""

    reasoning_tokens: int


class TokenUsage(Struct):
    """Exact tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokenDetails
    completion_tokens_details: CompletionTokenDetails


class PromptUsage(Struct):
    """Exact tokens of a request without generated tokens."""

    prompt_tokens: int
    total_tokens: int


class LikelyToken(Struct):
    """One of the likeliest tokens at a place."""

    token: str
    logprob: float | None
    bytes: list[int]


class ChosenToken(Struct):
    """A token of the answer, with the likeliest ones at its place."""

    token: str
    logprob: float | None
    bytes: list[int]
    top_logprobs: list[LikelyToken]


class ChatLogprobs(Struct):
    """Log-probabilities of a choice's tokens."""

    content: list[ChosenToken] | None
    refusal: list[ChosenToken] | None
    """Of a refusal, in place of those of the content."""


class RankedToken(Struct):
    """A token of the prompt's logprobs, under its id."""

    logprob: float | None
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[str, RankedToken] | None]


class AnsweredFunction(Struct):
    """What is called."""

    name: str
    arguments: str
    """A JSON object, as text."""


class AnsweredCall(Struct, kw_only=True):
    """A complete tool call."""

    id: str
    type: Literal["function"]
    function: AnsweredFunction
    index: int | UnsetType = UNSET
    """In streams only."""
    extra_content: dict[str, Any] | UnsetType = UNSET
    """What an upstream wants back with the next turn."""


class AnsweredMessage(Struct, kw_only=True):
    """The assistant's message."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    """In place of the content: the model's refusal, as some upstreams tell it apart."""
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    """The same under the other name that clients read."""
    tool_calls: list[AnsweredCall] | UnsetType = UNSET


class ChatChoice(Struct, kw_only=True):
    """One choice of a chat completion."""

    index: int
    message: AnsweredMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishWord


class ChatCompletion(Struct, kw_only=True):
    """A whole chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    """Seconds since 1970, as everywhere."""
    model: str
    system_fingerprint: str
    """The digest of the policy that decided."""
    choices: list[ChatChoice]
    usage: TokenUsage
    penstock: Served
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET
    """If requested."""


class ChatDelta(Struct, kw_only=True):
    """What is new of a choice."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[AnsweredCall] | UnsetType = UNSET


class ChatChunkChoice(Struct, kw_only=True):
    """One choice in an event."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishWord | None


class ChatChunk(Struct, kw_only=True):
    """The data of an event of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: TokenUsage | UnsetType | None = UNSET
    """With `stream_options.include_usage`: null in all events but the last."""
    penstock: Served | UnsetType = UNSET
    """In the last event before `[DONE]`."""
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET


class TextLogprobs(Struct):
    """Log-probabilities of a text choice: lists of the same length."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float | None] | None]


class TextChoice(Struct, kw_only=True):
    """One choice of a text completion."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishWord
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET


class TextCompletion(Struct, kw_only=True):
    """A whole text completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: TokenUsage
    penstock: Served


class TextChunkChoice(Struct, kw_only=True):
    """One choice in an event."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishWord | None
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET


class TextChunk(Struct, kw_only=True):
    """The data of an event of a streamed text completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChunkChoice]
    usage: TokenUsage | UnsetType | None = UNSET
    penstock: Served | UnsetType = UNSET


class EmbeddingItem(Struct):
    """The vector of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Numbers, or with the encoding base64 float32 in little-endian order."""


class EmbeddingList(Struct):
    """The vectors of all inputs."""

    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: PromptUsage
    penstock: Served


class ModelEntry(Struct):
    """A name that clients put into `model`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["penstock"]
    max_model_len: int | None
    description: str
    parent: str | None
    """The model that an adapter belongs to."""
    available: bool
    """A rung of it can serve now."""


class ModelEntries(Struct):
    """The models that a key may ask for."""

    object: Literal["list"]
    data: list[ModelEntry]
