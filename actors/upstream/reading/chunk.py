"""Schema of stream chunks and whole responses, of chat and text completions; only the fields used here.

Unknown fields are ignored. Fields that servers write in several forms are typed Any, and parsed by `content_parts`,
`tool_call_assembler`, `usage` and `finish_reason`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.upstream.failures.failure import garbled
from engine.messages import TokenLogprobs

UNKNOWN_TOKEN = -1
_LEAST_LIKELY = -9999.0
"""OpenAI's value for a token whose log-probability is not known; 0.0 would call it certain."""


class TopLogprob(msgspec.Struct, gc=False):
    """One alternative of a position (chat)."""

    token: str
    logprob: float | None
    bytes: list[int] | None = None


class LogprobPosition(msgspec.Struct, gc=False):
    """One token (chat)."""

    token: str
    logprob: float | None
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] | None = None


class Logprobs(msgspec.Struct, gc=False):
    """Chat (`content`, or `refusal`) or text completion (the lists)."""

    content: list[LogprobPosition] | None = None
    refusal: list[LogprobPosition] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class CalledFunction(msgspec.Struct, gc=False):
    """A called function, or a fragment of it."""

    name: str | None = None
    arguments: Any = None
    """A fragment of JSON text, or the object itself."""
    parameters: Any = None
    """Some servers' name for the arguments."""


class ToolCallPart(msgspec.Struct, gc=False):
    """A tool call, or a fragment of it."""

    index: Any = None
    id: Any = None
    function: CalledFunction | None = None
    name: str | None = None
    arguments: Any = None
    """`name` and `arguments` where a server omits `function` ..."""
    input: Any = None
    parameters: Any = None
    """... or other names for the arguments."""
    extra_content: Any = None
    """Gemini's: contains the thought signature that must be sent back with the next turn."""


class Message(msgspec.Struct, gc=False):
    """The delta of a chat chunk, or a whole message."""

    content: Any = None
    """A string, or a list of parts."""
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    thinking: Any = None
    tool_calls: list[ToolCallPart] | ToolCallPart | None = None
    function_call: CalledFunction | None = None
    """The deprecated form of `tool_calls`."""


class ChunkChoice(msgspec.Struct, gc=False):
    """One choice of a chunk."""

    index: int | None = None
    delta: Message | None = None
    message: Message | None = None
    text: str | None = None
    logprobs: msgspec.Raw = msgspec.Raw()
    finish_reason: Any = None
    stop_reason: Any = None
    """vLLM's: the stop string or token id; other servers put arbitrary values here."""
    usage: Any = None
    error: Any = None


class Chunk(msgspec.Struct, gc=False):
    """One event of a stream, or a whole response, of chat or text completions."""

    choices: Sequence[ChunkChoice] | None = None
    usage: Any = None
    x_groq: Any = None
    timings: Any = None
    model: Any = None
    error: Any = None


class PlainMessage(Message, gc=False, forbid_unknown_fields=True):
    """One that says nothing beside what is read. Names that many servers write without a value are null here."""

    content: str | None = None
    role: msgspec.Raw = msgspec.Raw()
    name: msgspec.Raw = msgspec.Raw()
    token_id: msgspec.Raw = msgspec.Raw()
    reasoning_details: None = None
    annotations: None = None
    audio: None = None


class PlainChoice(ChunkChoice, gc=False, forbid_unknown_fields=True):
    """The same."""

    delta: PlainMessage | None = None
    message: PlainMessage | None = None
    stop_reason: None = None
    matched_stop: None = None
    seed: None = None
    token_ids: None = None
    prompt_token_ids: None = None
    prompt_logprobs: None = None


class PlainChunk(Chunk, gc=False, forbid_unknown_fields=True):
    """The same."""

    choices: Sequence[PlainChoice] | None = None
    id: msgspec.Raw = msgspec.Raw()
    object: msgspec.Raw = msgspec.Raw()
    created: msgspec.Raw = msgspec.Raw()
    system_fingerprint: msgspec.Raw = msgspec.Raw()
    obfuscation: msgspec.Raw = msgspec.Raw()
    x_groq: None = None
    timings: None = None
    service_tier: None = None
    prompt_token_ids: None = None
    prompt_logprobs: None = None
    kv_transfer_params: None = None


_decoder = msgspec.json.Decoder(Chunk)
_plain_decoder = msgspec.json.Decoder(PlainChunk)
_logprobs = msgspec.json.Decoder(Logprobs)


def read_chunk(data: bytes) -> Chunk | None:
    """Decode a chunk. None: it does not match the schema; `lenient_chunk` may still parse it."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_plain_chunk(data: bytes) -> PlainChunk | None:
    """The same of a chunk without further fields. None: it is none, or it has some."""
    try:
        return _plain_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def token_logprobs_of(raw: msgspec.Raw) -> list[TokenLogprobs]:
    """One entry per token. Raises UpstreamCallError."""
    if not bytes(raw).lstrip().startswith(b"{"):
        # A number for the whole event, or an empty list, has no entries per token.
        return []
    try:
        given = _logprobs.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise garbled("its log-probabilities are not those of the API") from None
    if (positions := given.content or given.refusal) is not None:
        return [
            TokenLogprobs(
                UNKNOWN_TOKEN,
                _likely(position.logprob),
                _bytes_of(position.token, position.bytes),
                tuple(
                    (UNKNOWN_TOKEN, _likely(top.logprob), _bytes_of(top.token, top.bytes))
                    for top in position.top_logprobs or ()
                ),
            )
            for position in positions
        ]
    tokens, values, tops = given.tokens or [], given.token_logprobs or [], given.top_logprobs or []
    if len(values) != len(tokens) or (tops and len(tops) != len(tokens)):
        raise garbled("its log-probabilities do not belong together")
    return [
        TokenLogprobs(
            UNKNOWN_TOKEN,
            _likely(value),
            token.encode("utf-8", "replace"),
            tuple((UNKNOWN_TOKEN, logprob, top.encode("utf-8", "replace")) for top, logprob in (best or {}).items()),
        )
        for token, value, best in zip(tokens, values, tops or [None] * len(tokens), strict=True)
    ]


def _likely(logprob: float | None) -> float:
    return _LEAST_LIKELY if logprob is None else logprob


def _bytes_of(token: str, given: list[int] | None) -> bytes:
    try:
        return bytes(given) if given is not None else token.encode("utf-8", "replace")
    except ValueError:
        raise garbled("a token's bytes are none") from None
