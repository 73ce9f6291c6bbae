"""Decodes a request's JSON into a typed body, with errors that name the field and say what to do."""

import difflib
import json
import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec

from gateway.errors import BadField, HttpError

T = TypeVar("T", bound=msgspec.Struct)
GivenFields = Mapping[str, Any]
"""The fields that the client wrote, by name, as JSON values."""

_MAX_VALUES = 100_000
"""Both decoders hold the interpreter while they read: this many values take about 50 ms at worst."""

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*?)`(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*?)`(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_OTHER = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_TYPES = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen = set()
        for name, _ in pairs:
            if name in seen:
                raise BadField(_short(name), f"The field '{_short(name)}' is given twice.", "duplicate_field")
            seen.add(name)
    return fields


_strictly = json.JSONDecoder(object_pairs_hook=_unique).decode
_fields = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def _given(body: bytes | bytearray) -> GivenFields:
    """The fields of a body that has been decoded. Raises `BadField` and ValueError."""
    fields = _fields(body)
    # msgspec silently keeps the last of two equal keys. A body that is the same when it is written again has none; one
    # with spaces or escapes is decoded once more, in a way that takes ten times as long.
    return fields if _encode(fields) == body else _strictly(body.decode())


def check_content_type(value: bytes | None) -> None:
    """Raise `HttpError` 415 if the content type is not JSON. A missing one is accepted."""
    if value is None:
        return
    kind, _, options = value.partition(b";")
    if kind.strip().lower() != b"application/json":
        raise HttpError(415, "unsupported_media_type", "The body must be JSON: send 'Content-Type: application/json'.")
    if b"charset" in options.lower() and b"utf-8" not in options.lower():
        raise HttpError(415, "unsupported_media_type", "The body must be JSON in UTF-8.")


def check_content_encoding(value: bytes | None) -> None:
    """Raise `HttpError` 415 for a compressed body: its length does not limit its size when decompressed."""
    if value is not None and value.strip().lower() not in {b"", b"identity"}:
        raise HttpError(
            415,
            "content_encoding_not_supported",
            "The body must not be compressed: send it without 'Content-Encoding'.",
        )


@cache
def whole_body(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The type that a body is decoded to: a kind's `forwarded`, if it has that, are further fields with any value."""
    forwarded: Collection[str] = getattr(kind, "forwarded", ())
    more = [(name, Any, None) for name in forwarded if name not in kind.__struct_fields__]
    return msgspec.defstruct(kind.__name__, more, bases=(kind,), kw_only=True)


class BodyDecoder:
    """Decodes one kind of body. A wrong field name is compared with the names in `known`."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        whole = whole_body(kind)
        self._decoder = msgspec.json.Decoder(whole)
        self.known = whole.__struct_encode_fields__

    def decode(self, body: bytes | bytearray, extra_names: Collection[str] = ()) -> tuple[Any, GivenFields]:
        """The typed body, and its fields as the client wrote them.

        `extra_names`: fields that may be there, too, with any value, and are not in the typed body.

        Raises `HttpError` 400, or 413 for too many values.
        """
        # Each value but the first follows one of these. They are counted in strings, too, which overestimates.
        if body.count(b",") + body.count(b"[") + body.count(b"{") > _MAX_VALUES:
            raise HttpError(
                413,
                "body_too_complex",
                f"The JSON body has too many values (at most {_MAX_VALUES} commas and opening brackets). Send fewer.",
            )
        try:
            try:
                decoded = self._decoder.decode(body)
            except msgspec.ValidationError:
                usual = _without(extra_names, body)
                if usual is None:
                    raise
                decoded = self._decoder.decode(usual)
            given = _given(body)
        except msgspec.ValidationError as error:
            raise _bad_field(str(error), self.known) from None
        except UnicodeDecodeError as error:
            raise _malformed(f"it is not UTF-8 (byte {error.start})") from None
        except RecursionError:
            raise _malformed("it is nested too deeply") from None
        except (msgspec.DecodeError, ValueError) as error:
            raise _malformed(_why_malformed(bytes(body), str(error))) from None
        return decoded, given


def _without(names: Collection[str], body: bytes | bytearray) -> bytes | None:
    """The body without these fields; None: it has none of them."""
    if not names:
        return None
    fields = _fields(body)
    if fields.keys().isdisjoint(names):
        return None
    return _encode({name: value for name, value in fields.items() if name not in names})


def converted(value: object, kind: type[T], where: str) -> T:
    """A part of a body that was left as JSON values, typed. Raises `BadField`, which names the field below `where`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _bad_field(str(error), kind.__struct_encode_fields__, where) from None


def nearest(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str | None:
    """The known word most similar to `word`, if one is similar."""
    matches = difflib.get_close_matches(word[:100], list(known), n=1, cutoff=0.7)
    return matches[0] if matches else None


def _why_malformed(body: bytes, error: str) -> str:
    if not body.strip():
        return "the body is empty"
    if body.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark; send UTF-8 without one"
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in body[:4]:
        return "it is not UTF-8"
    if re.search(rb"[\[:,]\s*-?(NaN|Infinity)\b", body):
        return "NaN and Infinity are no JSON numbers"
    if ("truncated" in error or "surrogate" in error) and re.search(rb"\\u[dD][89a-fA-F]", body):
        return "it holds half of a surrogate pair"
    if "truncated" in error:
        return "it ends too early"
    return error.removeprefix("JSON is malformed: ")


def _malformed(why: str) -> HttpError:
    return HttpError(400, "malformed_json", f"The body could not be read as JSON: {why}.")


def _bad_field(error: str, known: tuple[str, ...], where: str = "") -> BadField:
    if match := _UNKNOWN.match(error):
        name = _short(match["name"])
        param = _join(_param(match["path"], where), name)
        meant = nearest(name, known) if match["path"] is None else None
        hint = f" Did you mean '{meant}'?" if meant else " Remove it, or check its spelling."
        return BadField(param, f"Unrecognized field '{param}'.{hint}", "unknown_field")
    if match := _MISSING.match(error):
        param = _join(_param(match["path"], where), match["name"])
        return BadField(param, f"The field '{param}' is missing.", "missing_field")
    match = _OTHER.match(error)
    assert match is not None
    what = _TYPES.sub(
        lambda types: " or ".join([_WORDS.get(each, each) for each in types[1].split(" | ")]), match["what"]
    )
    path = _param(match["path"], where)
    if not path:
        return BadField(None, f"The body must be a JSON object: {_lower(what)}.", "invalid_type")
    if what.startswith("Invalid enum value") and path.endswith("role"):
        what += "; it must be system, developer, user, assistant or tool"
    return BadField(path, f"'{path}': {_lower(what)}.", "invalid_type")


def _param(path: str | None, where: str) -> str:
    """Msgspec's `$.messages[...].content` as `messages[].content`, below `where`; it does not report the index."""
    return (where + (path or "$").removeprefix("$")).removeprefix(".").replace("[...]", "[]")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _short(name: str) -> str:
    return name if len(name) <= 64 else name[:61] + "..."
