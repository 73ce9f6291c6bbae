"""Lenient parser for chunks that are not valid JSON or violate the API's schema. Sans-IO; one per call.

| deviation | source |
| --- | --- |
| a field of another type: `"index": "0"`, `"refusal": false`, `"delta": []` | gateways in PHP, JavaScript and Lua |
| a single choice instead of a list; a string as message | hand-written servers |
| NaN, Infinity, control characters in strings | JSON printers in Python and C |
| a character split over two events: UTF-16 escapes, or bytes | servers that cut text by code units or bytes |

Values of a wrong type are dropped, unless their meaning is clear.
"""

import codecs
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from actors.api.extra_fields import is_too_deep
from actors.upstream.reading.chunk import CalledFunction, Chunk, ChunkChoice, Message, ToolCallPart

_HIGH = ("\ud800", "\udbff")
_ALONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Lone surrogates; the range left out is what `surrogateescape` makes of invalid UTF-8 bytes."""
_NO_LIMIT = 9999.0
"""Replaces infinite log-probabilities, as vLLM does."""
_encode = msgspec.json.Encoder().encode


class LenientReader:
    """Keeps the first half of a split character until the next event that is parsed leniently."""

    def __init__(self) -> None:
        self._content_halves = _Halves()
        self._reasoning_halves = _Halves()
        self.event: Mapping[str, Any] = {}
        """The last one."""

    def read(self, data: bytes) -> Chunk | None:
        """None: it is not an object, even leniently."""
        try:
            value = json.loads(data.decode("utf-8", "surrogateescape"), strict=False)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or is_too_deep(value):
            return None
        event = self.event = _clean(value)
        return Chunk(
            choices=self._choices(value.get("choices")),
            usage=value.get("usage"),
            x_groq=value.get("x_groq"),
            timings=value.get("timings"),
            model=event.get("model"),
            error=event.get("error"),
        )

    def _choices(self, given: Any) -> list[ChunkChoice] | None:
        if isinstance(given, dict):
            given = [given]
        if not isinstance(given, list):
            return None
        return [self._choice(entry) for entry in given if isinstance(entry, dict)]

    def _choice(self, given: Mapping[str, Any]) -> ChunkChoice:
        message = given.get("message")
        return ChunkChoice(
            index=whole_number(given.get("index")),
            delta=self._message(given.get("delta")),
            message=self._message({"content": message} if isinstance(message, str) and message else message),
            text=self._content_halves.joined(given["text"]) if isinstance(given.get("text"), str) else None,
            logprobs=_raw(given.get("logprobs")),
            finish_reason=_clean(given.get("finish_reason")),
            stop_reason=_clean(given.get("stop_reason")),
            usage=given.get("usage"),
            error=_clean(given.get("error")),
        )

    def _message(self, given: Any) -> Message | None:
        if not isinstance(given, dict):
            return None
        content, refusal = given.get("content"), given.get("refusal")
        named = {
            name: self._text(self._reasoning_halves, given.get(name)) for name in ("reasoning_content", "reasoning")
        }
        return Message(
            content=self._text(self._content_halves, content),
            refusal=_clean(refusal) if isinstance(refusal, str) else None,
            reasoning_details=_clean(given.get("reasoning_details")),
            thinking=_clean(given.get("thinking")),
            tool_calls=_calls(given.get("tool_calls")),
            function_call=_function(given.get("function_call")),
            **named,
        )

    @staticmethod
    def _text(halves: "_Halves", given: Any) -> Any:
        return halves.joined(given) if isinstance(given, str) else _clean(given)


class _Halves:
    """Reassembles text that is cut within characters."""

    def __init__(self) -> None:
        self._high = ""
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def joined(self, text: str) -> str:
        """The complete characters so far."""
        text = self._high + text
        self._high = ""
        if text and _HIGH[0] <= text[-1] <= _HIGH[1]:
            text, self._high = text[:-1], text[-1]
        return self._bytes.decode(_bytes_of(text))


def _bytes_of(text: str) -> bytes:
    """UTF-8 bytes: surrogate pairs combined, and escaped invalid bytes restored."""
    paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _ALONE.sub("\ufffd", paired).encode("utf-8", "surrogateescape")


def _clean(value: Any) -> Any:
    """Replace lone surrogates in all strings."""
    if isinstance(value, str):
        return _bytes_of(value).decode("utf-8", "replace")
    if isinstance(value, list):
        return [_clean(entry) for entry in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(entry) for name, entry in value.items()}
    return value


def whole_number(value: Any) -> int | None:
    """An integer, also from a string or a float that equals one; else None."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _calls(given: Any) -> list[ToolCallPart] | None:
    given = [given] if isinstance(given, dict) else given
    if not isinstance(given, list):
        return None
    names = ("index", "id", "arguments", "input", "parameters", "extra_content")
    return [
        ToolCallPart(
            function=_function(entry.get("function")),
            name=entry["name"] if isinstance(entry.get("name"), str) else None,
            **{name: _clean(entry.get(name)) for name in names},
        )
        for entry in given
        if isinstance(entry, dict)
    ]


def _function(given: Any) -> CalledFunction | None:
    if not isinstance(given, dict):
        return None
    name = given.get("name")
    return CalledFunction(
        name=name if isinstance(name, str) else None,
        arguments=_clean(given.get("arguments")),
        parameters=_clean(given.get("parameters")),
    )


def _raw(logprobs: Any) -> msgspec.Raw:
    """Log-probabilities as JSON without NaN and infinity."""
    return msgspec.Raw() if logprobs is None else msgspec.Raw(_encode(_finite(_clean(logprobs))))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return _NO_LIMIT if value > 0 else -_NO_LIMIT
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    return value
