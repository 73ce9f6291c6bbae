"""What servers of the OpenAI API send: the fields that matter here, of chat and of text completions.

Fields that are not listed are passed over. Those that servers write in several forms are taken as they come, and read
where they are used: `parts` (content and reasoning), `tool_parts`, `usage`, `finish`.
"""

from typing import Any

import msgspec

from actors.upstream.failures.failure import garbled
from engine.core.messages import TokenLogprobs

UNKNOWN_TOKEN = -1


class Top(msgspec.Struct, gc=False):
    """One alternative of a position, of chat."""

    token: str
    logprob: float | None
    bytes: list[int] | None = None


class LogprobPosition(msgspec.Struct, gc=False):
    """One token, of chat."""

    token: str
    logprob: float | None
    bytes: list[int] | None = None
    top_logprobs: list[Top] | None = None


class Logprobs(msgspec.Struct, gc=False):
    """Of chat (`content`) or of a text completion (the lists)."""

    content: list[LogprobPosition] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Function(msgspec.Struct, gc=False):
    """A called function, or a piece of it."""

    name: str | None = None
    arguments: Any = None
    """A piece of JSON text, or the object itself."""
    parameters: Any = None
    """What some servers call the arguments."""


class CallPart(msgspec.Struct, gc=False):
    """A tool call, or a piece of it."""

    index: Any = None
    id: Any = None
    function: Function | None = None
    name: str | None = None
    arguments: Any = None
    """The last two where a server leaves `function` out ..."""
    input: Any = None
    parameters: Any = None
    """... or calls the arguments so."""
    extra_content: Any = None
    """Gemini's: it holds the signature of what was thought, which it wants back with the next turn."""


class Message(msgspec.Struct, gc=False):
    """What a chunk of chat adds, or a whole message."""

    content: Any = None
    """A text, or a list of parts."""
    refusal: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    thinking: Any = None
    tool_calls: list[CallPart] | CallPart | None = None
    function_call: Function | None = None
    """The form before `tool_calls`."""


class ChunkChoice(msgspec.Struct, gc=False):
    """One choice's part of a chunk."""

    index: int | None = None
    delta: Message | None = None
    message: Message | None = None
    text: str | None = None
    logprobs: msgspec.Raw = msgspec.Raw()
    finish_reason: Any = None
    stop_reason: Any = None
    """vLLM's: the stop string or token; others may say what they like."""
    usage: Any = None
    error: Any = None


class Chunk(msgspec.Struct, gc=False):
    """One event of a stream, or a whole answer, of chat or of a text completion."""

    choices: list[ChunkChoice] | None = None
    usage: Any = None
    x_groq: Any = None
    timings: Any = None
    model: Any = None
    error: Any = None


_decoder = msgspec.json.Decoder(Chunk)
_logprobs = msgspec.json.Decoder(Logprobs)


def read_chunk(data: bytes) -> Chunk | None:
    """None: it is not what the API says; actors/upstream/reading/lenient.py may still read it."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def positions_of(raw: msgspec.Raw) -> list[TokenLogprobs]:
    """One for each token. Raises Broken."""
    if not bytes(raw).lstrip().startswith(b"{"):
        # A number for the whole event, or an empty list: nothing of single tokens.
        return []
    try:
        given = _logprobs.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise garbled("its log-probabilities are not those of the API") from None
    if given.content is not None:
        return [
            TokenLogprobs(
                UNKNOWN_TOKEN,
                _likely(each.logprob),
                _bytes_of(each.token, each.bytes),
                tuple(
                    (UNKNOWN_TOKEN, _likely(top.logprob), _bytes_of(top.token, top.bytes))
                    for top in each.top_logprobs or ()
                ),
            )
            for each in given.content
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
    return 0.0 if logprob is None else logprob


def _bytes_of(token: str, given: list[int] | None) -> bytes:
    try:
        return bytes(given) if given is not None else token.encode("utf-8", "replace")
    except ValueError:
        raise garbled("a token's bytes are none") from None
