"""Parsing of error objects: OpenAI's, vLLM's flat one, FastAPI's `detail`, Google's list, and others. Pure.

Extracts what nearly all of them contain: status, codes, message and parameter. Servers put each of these under several
names, as a number or a string, one or two levels deep.
"""

import re
import unicodedata
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import msgspec

_MAX_BYTES = 65_536
"""Size limit; of a larger error only the status is used."""
_MAX_MESSAGE = 4_096
"""Characters of a message that are read; redaction.py limits those that are forwarded."""
_MAX_DETAILS = 4
_STATUS_NAMES = ("status", "status_code", "statusCode", "http_status", "http_status_code", "httpStatus", "code")
_CODE_NAMES = ("code", "type", "status", "error_type", "error_code", "errorCode", "reason", "__type")
_FLAT_WORDS = ("message", "msg", "error_message", "errorMessage", "error_msg", "errorMsg")
_WORD_NAMES = (*_FLAT_WORDS, "status_msg", "detail", "title", "description")
_OWN_WORDS = frozenset({"error_message", "errorMessage", "error_msg", "errorMsg"})
"""Names that only an error's message has."""
_STATE_NAMES = ("status", "state", "level", "severity", "type", "object", "event", "result")
_FAILURES = frozenset({"error", "failed", "failure", "fail", "fatal", "critical", "exception"})
"""Values of those names."""
_BARE = frozenset({"message", "msg", "id", "requestId", "request_id", "request-id", "timestamp"})
"""API gateways send a message beside these at most ..."""
_FAILED_WORDS = re.compile(
    r"(?i)error|fail|exception|tim(ed?|ing)[ -]?out|unavailable|abort|crash|denied|forbidden|invalid|refused|exceeded"
    r"|too many|not found|unauthori|went wrong|closed|lost"
)
"""... and one of these words in it."""
_FLAT_CODES = ("code", "error_code", "errorCode", "status_code", "statusCode")
_NO_ERROR = frozenset({"0", "200", "ok", "success", "none", "null", "false", ""})
_CODE = re.compile(r"[A-Za-z0-9_.#:/-]{1,64}")
_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_.\[\]-]{0,63}")
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")


class ErrorObject(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of an error."""

    status: int | None = None
    codes: tuple[str, ...] = ()
    """As written, the most specific one first."""
    words: str = ""
    """The message, on one line."""
    param: str | None = None
    moderated: bool = False
    """It lists reasons for which the content was blocked."""
    retry_after_s: float | None = None


NO_OBJECT = ErrorObject()


def read_error(data: bytes, *, is_error: bool = True) -> ErrorObject | None:
    """The error in a response body or an event's data. None: it contains none.

    `is_error`: the data is known to be an error, so that plain text, or an object with a message only, counts as one.
    """
    if len(data) > _MAX_BYTES:
        return NO_OBJECT if is_error else None
    value = _json(data)
    if value is None and is_error and (inner := _data_line(data)) is not None:
        value = _json(inner)
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        return _of_object(value, is_error=is_error)
    if not is_error:
        return None
    if isinstance(value, str):
        return ErrorObject(words=_line(value))
    return NO_OBJECT if value is not None else ErrorObject(words=_plain_text(data))


def _json(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _data_line(data: bytes) -> bytes | None:
    """The data of the first event: some servers send errors with other statuses as event streams."""
    return next((line[5:] for line in data.splitlines() if line.startswith(b"data:")), None)


def _of_object(top: dict[str, Any], *, is_error: bool) -> ErrorObject | None:
    error = top.get("error") or top.get("errors") or top.get("exception") or _base_response(top)
    if isinstance(error, list):
        error = error[0] if error else None
    flat = top.get("object") == "error" or top.get("type") == "error" or "detail" in top
    if not (error or flat or is_error or _is_flat_error(top)):
        return None
    places = [top]
    if isinstance(error, dict):
        # The outer "type" of an envelope is just "error"; the inner object has the specific one.
        places = [error, *_inner(error), {**top, "type": None if top.get("type") == "error" else top.get("type")}]
    codes = tuple(dict.fromkeys(code for place in places for code in _codes(place)))
    words = _line(error) if isinstance(error, str) else ""
    metadata = error.get("metadata") if isinstance(error, dict) else None
    return ErrorObject(
        status=next((status for place in places if (status := _status(place)) is not None), _validation_status(places)),
        codes=codes,
        words=words or next((words_found for place in places if (words_found := _words(place))), ""),
        param=next((param for place in places if (param := _param(place)) is not None), None),
        moderated=isinstance(metadata, dict) and ("reasons" in metadata or "flagged_input" in metadata),
        retry_after_s=_retry_delay(error),
    )


def _base_response(top: dict[str, Any]) -> Any:
    """MiniMax's `base_resp`, which is present in successful answers too, with status 0."""
    response = top.get("base_resp")
    return response if isinstance(response, dict) and str(response.get("status_code", 0)) not in _NO_ERROR else None


def _is_flat_error(top: dict[str, Any]) -> bool:
    """A message next to a status, a code other than 0, a code that ends in "error", or alone; a state that is one."""
    if any(str(top.get(name)).lower() in _FAILURES for name in _STATE_NAMES):
        return True
    words = next((top[name] for name in _FLAT_WORDS if isinstance(top.get(name), str) and top[name]), None)
    if words is None:
        return False
    if not _OWN_WORDS.isdisjoint(top) or (top.keys() <= _BARE and _FAILED_WORDS.search(words)):
        return True
    names_itself = any(code.lower().endswith(("error", "exception")) for code in _codes(top))
    coded = any(name in top and str(top[name]).lower() not in _NO_ERROR for name in _FLAT_CODES)
    return names_itself or coded or top.get("success") is False or _status(top) is not None


def _inner(error: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Nested objects with more detail: Azure's `innererror`, or an error object wrapped in a message."""
    for name in ("innererror", "inner_error", "error", "message"):
        nested = error.get(name)
        if isinstance(nested, dict):
            yield nested
    details = error.get("details")
    for detail in details[:_MAX_DETAILS] if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield {"reason": detail.get("reason")}


def _validation_status(places: list[dict[str, Any]]) -> int | None:
    """Status 422 for a list of invalid fields (FastAPI), whose status is not in the body."""
    lists = [place["detail"] for place in places if isinstance(place.get("detail"), list)]
    invalid_fields = any(isinstance(entry, dict) and "loc" in entry for detail in lists for entry in detail)
    return HTTPStatus.UNPROCESSABLE_ENTITY if invalid_fields else None


def _status(place: dict[str, Any]) -> int | None:
    for name in _STATUS_NAMES:
        value = place.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
    return None


def _codes(place: dict[str, Any]) -> Iterator[str]:
    for name in _CODE_NAMES:
        value = place.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31:
            value = str(value)
        if isinstance(value, str) and value != "error" and _CODE.fullmatch(value):
            yield value


def _words(place: dict[str, Any]) -> str:
    for name in _WORD_NAMES:
        if text := _text(place.get(name)):
            return text
    return ""


def _text(value: Any, depth: int = 0) -> str:
    """The message, however it is wrapped. Of a list of invalid fields: locations and messages, no values."""
    if isinstance(value, str):
        return _line(value)
    if depth > 3:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, [_validation_message(entry, depth) for entry in value[:_MAX_DETAILS]]))
    if isinstance(value, dict):
        return next((text for name in _WORD_NAMES if (text := _text(value.get(name), depth + 1))), "")
    return ""


def _validation_message(value: Any, depth: int) -> str:
    text = _text(value, depth + 1)
    place = value.get("loc") if isinstance(value, dict) else None
    if not text or not isinstance(place, list):
        return text
    return f"{'.'.join(_line(str(step)) for step in place[:8])}: {text}"


def _param(place: dict[str, Any]) -> str | None:
    value = place.get("param")
    return value if isinstance(value, str) and _PARAM.fullmatch(value) else None


def _retry_delay(error: Any) -> float | None:
    """The retryDelay of Google's RetryInfo, in seconds."""
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        match = _DURATION.fullmatch(delay) if isinstance(delay, str) else None
        if match is not None:
            return float(match[1])
    return None


def _plain_text(data: bytes) -> str:
    """Message of a non-JSON body: a short text; "" for an HTML page, or truncated or compressed data."""
    text = data.decode("utf-8", "replace").strip()
    if "�" in text or "\0" in text or text.startswith(("<", "{", "[")) or len(text) > 1_000:
        return ""
    return _line(text)


def _line(text: str) -> str:
    """On one line, without control and invisible characters."""
    text = "".join(
        [character for character in text[:_MAX_MESSAGE] if unicodedata.category(character) not in {"Cf", "Cs", "Co"}]
    )
    return " ".join(
        "".join([" " if unicodedata.category(character) == "Cc" else character for character in text]).split()
    )
