"""The lines of files of requests, and of files of results."""

from secrets import token_hex
from typing import Any

import msgspec

from actors.batches.ports import Envelope
from actors.batches.records import LineFault, WaitingLine
from gateway.openai.json_text import encode

_MOST_ID = 512
"""Characters of a `custom_id`."""


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Asked(msgspec.Struct):
    """What is looked at of a body before the batch begins."""

    model: str
    stream: bool | None = None
    stream_options: Any = None
    store: bool | None = None


_line = msgspec.json.Decoder(_Line).decode
_asked = msgspec.json.Decoder(_Asked).decode


def check_line(raw: bytes, endpoint: str) -> Envelope | LineFault:
    """What a line says beside its request, or what is wrong with it."""
    try:
        line = _line(raw)
    except msgspec.ValidationError as error:
        missing = str(error).startswith("Object missing required field")
        code = "missing_required_parameter" if missing else "invalid_request"
        return LineFault(
            code, f"{error}. A line is an object with custom_id, method, url and body.", _field_of(str(error))
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return LineFault("invalid_json_line", f"This line is not valid JSON: {error}.")
    if not line.custom_id or len(line.custom_id) > _MOST_ID:
        return LineFault("invalid_request", f"'custom_id' must have 1 to {_MOST_ID} characters.", "custom_id")
    if line.method != "POST":
        return LineFault("invalid_method", "'method' must be 'POST'.", "method")
    if line.url != endpoint:
        message = f"'url' is '{line.url[:80]}', and the batch was created for '{endpoint}': they must be the same."
        return LineFault("invalid_url", message, "url")
    try:
        asked = _asked(line.body)
    except msgspec.ValidationError as error:
        return LineFault("invalid_request", f"body: {error}.", _field_of(str(error), "body"))
    except (msgspec.DecodeError, RecursionError) as error:
        return LineFault("invalid_json_line", f"This line is not valid JSON: {error}.")
    if asked.stream or asked.stream_options is not None:
        name = "stream" if asked.stream else "stream_options"
        return LineFault("unsupported_parameter", f"'{name}': a batch has no streams. Leave it out.", f"body.{name}")
    if asked.store and endpoint == "/v1/responses":
        message = "'store': responses of a batch are in its output file, and stored nowhere else. Leave it out."
        return LineFault("unsupported_parameter", message, "body.store")
    return Envelope(line.custom_id, asked.model)


def body_of(raw: bytes) -> bytes:
    """The request's body, of a line that was checked."""
    return bytes(_line(raw).body)


def answered_line(line: WaitingLine, request_id: str, status: int, body: bytes) -> bytes:
    """A result with the answer of the endpoint, or with its error."""
    response = {"status_code": status, "request_id": request_id, "body": msgspec.Raw(body)}
    return _result(line, response, None)


def unanswered_line(line: WaitingLine, code: str, message: str) -> bytes:
    """A result that says why there is no answer."""
    return _result(line, None, {"code": code, "message": message})


def _result(line: WaitingLine, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    fields = {
        "id": f"batch_req_{token_hex(12)}",
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    }
    return encode(fields) + b"\n"


def _field_of(error: str, where: str = "") -> str | None:
    """The field that the message of a decoder names."""
    for quote in ("required field `", "unknown field `", "at `$."):
        _, found, rest = error.partition(quote)
        if found:
            name = rest.partition("`")[0]
            return f"{where}.{name}" if where else name
    return where or None
