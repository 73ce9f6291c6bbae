"""What servers of the OpenAI API stream: the fields that matter here, of chat and of text completions.

Fields that are not listed are passed over; those that are listed must be what the API says.
"""

from typing import Annotated, Any

import msgspec

from actors.upstream.failure import Broken, error_in, garbled
from engine.messages import TokenLogprobs

UNKNOWN_TOKEN = -1
_CallNumber = Annotated[int, msgspec.Meta(ge=0, lt=128)]


class Top(msgspec.Struct, gc=False):
    """One alternative of a position, of chat."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class Position(msgspec.Struct, gc=False):
    """One token, of chat."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[Top] | None = None


class Logprobs(msgspec.Struct, gc=False):
    """Of chat (`content`) or of a text completion (the lists)."""

    content: list[Position] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Function(msgspec.Struct, gc=False):
    """A piece of a called function."""

    name: str | None = None
    arguments: str | None = None


class CallPart(msgspec.Struct, gc=False):
    """A piece of a tool call."""

    index: _CallNumber | None = None
    function: Function | None = None


class Message(msgspec.Struct, gc=False):
    """What a chunk of chat adds."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """vLLM's newer name for it. It is counted, and not shown."""
    tool_calls: list[CallPart] | None = None


class Choice(msgspec.Struct, gc=False):
    """One choice's part of a chunk."""

    index: int = 0
    delta: Message | None = None
    text: str | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    """vLLM's: the stop string or token; others may say what they like."""


_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]
"""Of tokens: it goes into the ledger."""


class PromptDetails(msgspec.Struct, gc=False):
    """More on the prompt's tokens."""

    cached_tokens: _Count | None = None


class Usage(msgspec.Struct, gc=False):
    """What the upstream has counted."""

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    prompt_tokens_details: PromptDetails | None = None


class Chunk(msgspec.Struct, gc=False):
    """One event of a stream, of chat or of a text completion."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(Chunk)


def read_chunk(data: bytes) -> Chunk:
    """Raises Broken."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        failure = error_in(data)
        raise (Broken(failure) if failure is not None else garbled("an event is not a chunk of a completion")) from None


def positions_of(given: Logprobs) -> list[TokenLogprobs]:
    """One for each token. Raises Broken."""
    if given.content is not None:
        return [
            TokenLogprobs(
                UNKNOWN_TOKEN,
                each.logprob,
                _bytes_of(each.token, each.bytes),
                tuple((UNKNOWN_TOKEN, top.logprob, _bytes_of(top.token, top.bytes)) for top in each.top_logprobs or ()),
            )
            for each in given.content
        ]
    tokens, values, tops = given.tokens or [], given.token_logprobs or [], given.top_logprobs or []
    if len(values) != len(tokens) or (tops and len(tops) != len(tokens)):
        raise garbled("its log-probabilities do not belong together")
    return [
        TokenLogprobs(
            UNKNOWN_TOKEN,
            value if value is not None else 0.0,
            token.encode("utf-8", "replace"),
            tuple((UNKNOWN_TOKEN, logprob, top.encode("utf-8", "replace")) for top, logprob in (best or {}).items()),
        )
        for token, value, best in zip(tokens, values, tops or [None] * len(tokens), strict=True)
    ]


def _bytes_of(token: str, given: list[int] | None) -> bytes:
    try:
        return bytes(given) if given is not None else token.encode("utf-8", "replace")
    except ValueError:
        raise garbled("a token's bytes are none") from None
