"""The messages of the WebSocket `/v1/responses`: requests in, the events of a stream out."""

import msgspec

from actors.api.errors import ErrorBody
from actors.api.request import ParsedBody
from gateway.errors import BadField
from gateway.openai.json_text import encode
from gateway.openai.requests.fault import fault
from gateway.openai.requests.json_body import GivenFields
from gateway.responses_api.request_body import ResponseBody, read_response

CREATE = "response.create"
_DATA = b"\ndata: "
_MAX_ID_CHARACTERS = 128


class CreatePeek(msgspec.Struct):
    """The fields by which a client's message is dispatched; all others are ignored at first."""

    type: str
    stream_id: str | None = None
    """Requests with the same one are answered one after the other, those of different ones at once."""


class CreateMessage(ResponseBody, kw_only=True):
    """A request for a response."""

    type: str
    stream_id: str | None = None
    generate: bool | None = None


def check_peek(peek: CreatePeek) -> None:
    """Raises `BadField`."""
    if peek.type != CREATE:
        raise BadField("type", f"Unknown message type '{peek.type[:64]}'. It must be '{CREATE}'.", "unknown_type")
    if peek.stream_id is not None and not 0 < len(peek.stream_id) <= _MAX_ID_CHARACTERS:
        raise fault("stream_id", f"must have 1 to {_MAX_ID_CHARACTERS} characters.")


def read_create(message: CreateMessage, given: GivenFields) -> ParsedBody:
    """Raises `BadField`."""
    if message.stream is False:
        raise fault("stream", "must not be false: answers on this connection are always streamed.")
    if message.background:
        raise fault("background", "is not supported here: use POST /v1/responses.", "unsupported_parameter")
    if message.generate is False:
        raise fault("generate", "must not be false: nothing is prepared in advance.", "unsupported_parameter")
    message.stream = True
    return read_response(message, given)


def event_messages(data: bytes, stream_id: str | None) -> list[bytes]:
    """One message for each of these server-sent events."""
    events = [event.partition(_DATA)[2] for event in data.split(b"\n\n")[:-1]]
    if stream_id is None:
        return events
    return [b'%b,"stream_id":%b}' % (event[:-1], encode(stream_id)) for event in events]


def socket_error(error: ErrorBody, stream_id: str | None) -> bytes:
    """A request that has failed before it had a response."""
    fields = {"type": "error", "status": error.status, "error": error.fields()}
    return encode(fields if stream_id is None else {**fields, "stream_id": stream_id})
