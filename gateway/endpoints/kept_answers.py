"""Kept answers over HTTP: the headers that ask for one, and what is found at `/v1/streams/{id}`."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from actors.api.errors import Refusal, Unavailable
from actors.api.request import InferenceRequest, ParsedBody
from actors.kept.kept_answer import KeptAnswer, KeptReader
from actors.request.response_stream import ResponseStream
from gateway.endpoints.api_context import ApiContext
from gateway.errors import BadField, HttpError
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.json_text import encode
from gateway.openai.responses.headers import DecisionHeaders

STREAMS = b"/v1/streams/"
IDEMPOTENCY_KEY = b"idempotency-key"
_RESUMABLE = b"x-penstock-resumable"
_BACKGROUND = b"x-penstock-background"
_KEEPS = frozenset({IDEMPOTENCY_KEY, _RESUMABLE, _BACKGROUND})
_STATUS = b"/status"
_BETA = b"beta=true"
"""Anthropic's clients write it behind the address of what is beta there."""
_MAX_KEY = 255
_MAX_POSITION = 1 << 53
_DIGITS = 16
EVENTS_LOST = (
    "The server that was sending this answer ended before the last events that you have were written down. "
    "Read it again from the beginning, without 'after' and Last-Event-ID."
)
"""Code `events_lost`: after a restart the file may have less than the client, if the disk had failed."""
log = structlog.get_logger()


def digest_of(request: Request, body: Body) -> bytes:
    """What an Idempotency-Key stands for; b"" without one."""
    if request.header(IDEMPOTENCY_KEY) is None:
        return b""
    return hashlib.sha256(request.path.removesuffix(b"/") + b"\n" + body).digest()


def may_keep(request: Request, body: ParsedBody) -> bool:
    """Whether it has one of the headers by which an answer is kept, or is to run in the background."""
    return request.has_any(_KEEPS) or in_background(request, body)


async def keep(api: ApiContext, request: Request, inference: InferenceRequest, endpoint: str) -> KeptReader | None:
    """A reader of the request's kept answer, where it `may_keep`; None: the client asks for none, or there is no room.

    Raises HttpError for a bad header, IdempotencyKeyReused, BadKey and Unavailable, after logging them.
    """
    with api.refusal_log(inference.request_id, inference.credentials.path, request.arrived_at, request.key):
        await api.service.kept.ready()
        reader = _keep(api, request, inference, endpoint)
    if reader is not None and reader.answer.request.request_id != inference.request_id:
        log_again(reader, inference.request_id)
    return reader


def _keep(api: ApiContext, request: Request, inference: InferenceRequest, endpoint: str) -> KeptReader | None:
    key, resumable = request.header(IDEMPOTENCY_KEY), request.header(_RESUMABLE)
    if key is not None and not (0 < len(key) <= _MAX_KEY and key.isascii()):
        raise HttpError(400, "bad_header", f"Idempotency-Key must be 1 to {_MAX_KEY} ASCII characters.")
    for name in (_RESUMABLE, _BACKGROUND):
        if request.header(name) not in {None, b"true", b"false"}:
            raise HttpError(400, "bad_header", f"{name.decode()} must be 'true' or 'false'.")
    background = in_background(request, inference.body)
    if key is None and not background and (resumable != b"true" or not inference.body.streamed):
        return None
    service = api.service
    tenant = service.clients.tenant_of(request.key, inference.body)
    text = "" if key is None else key.decode("ascii")
    created = int(service.wall())
    reader = service.kept.begin(
        inference,
        tenant,
        endpoint=endpoint,
        created=created,
        key=text,
        digest=request.digest,
        background=background,
    )
    if background and reader is None:
        raise Unavailable(
            "no_room_to_keep",
            "The server has no room to keep this answer. Try again later, or ask for it in the foreground.",
            5.0,
        )
    return reader


def in_background(request: Request, body: ParsedBody) -> bool:
    """The client wants to leave and come back."""
    response = body.response
    return request.header(_BACKGROUND) == b"true" or (response is not None and response.background)


async def respond_begun(api: ApiContext, connection: Connection, reader: KeptReader, headers: bytes) -> None:
    """202, as soon as a restart would not lose the answer."""
    try:
        await api.service.kept.written()
        await connection.respond(202, headers + JSON_TYPE, encode(_status(reader.answer)))
    finally:
        reader.close()


def _status(answer: KeptAnswer) -> dict[str, Any]:
    error = answer.error
    if answer.waits:
        status = "interrupted"
    elif not answer.ended:
        status = "running"
    else:
        status = "failed" if answer.failed else "ended"
    return {
        "id": answer.request.request_id,
        "object": "penstock.answer",
        "status": status,
        "created": answer.created,
        "model": answer.request.body.model,
        "stream": answer.request.body.streamed,
        "completion_tokens": answer.delivered_tokens,
        "error": None if error is None else error.fields(),
    }


def kept_lines(reader: KeptReader, request_id: str) -> bytes:
    """Header lines: the id by which the answer is read again, and whether it was there before this request."""
    kept_id = reader.answer.request.request_id
    line = b"x-penstock-stream: %b\r\n" % kept_id.encode()
    return line if kept_id == request_id else line + b"idempotent-replayed: true\r\n"


async def opened(
    api: ApiContext, inference: InferenceRequest, reader: KeptReader | None
) -> ResponseStream | KeptReader:
    """A new response, or the kept one that `reader` reads, once it is decided. Raises Refusal."""
    if reader is None:
        return await api.service.open(inference)
    await reader.answer.begun()
    return reader


def log_again(reader: KeptReader, request_id: str) -> None:
    """A request is answered with an answer that was there already."""
    answer = reader.answer
    log.info("answer_read_again", request_id=request_id, kept=answer.request.request_id, tenant=answer.tenant)


def position_of(request: Request) -> int:
    """The number of the last event that the client has: `after` in the query, else `Last-Event-ID`; 0: none.

    Raises BadField.
    """
    last = request.header(b"last-event-id")
    for part in request.query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"after":
            last = value
        elif part and part != _BETA:
            raise BadField(name.decode("latin1")[:64], "The only parameter here is 'after', a number of an event.")
    # The one that does not count is checked, too: a client that sends something else there means something else.
    for given in (last, request.header(b"last-event-id")):
        if given and (not given.isdigit() or len(given) > _DIGITS or int(given) > _MAX_POSITION):
            raise BadField("after", "'after' and Last-Event-ID are the number of an event: the last `id` that came.")
    return int(last) if last else 0


AnswerFrom = Callable[[Connection, Request, InferenceRequest, DecisionHeaders, KeptReader | None], Awaitable[None]]
"""How an endpoint answers in its own wire format, from a kept answer if there is a reader of one."""


def methods_of(path: bytes) -> bytes:
    """The methods of an address below `STREAMS`; b"": there is none."""
    answer_id, _, rest = path.removeprefix(STREAMS).removesuffix(b"/").partition(b"/")
    if not answer_id:
        return b""
    return {b"": b"GET, DELETE", _STATUS.strip(b"/"): b"GET"}.get(rest, b"")


class StreamHandler:
    """Handles kept answers by their id.

    `GET /v1/streams/{id}?after=N` is the rest, in the wire format of its endpoint; `GET /v1/streams/{id}/status` is how
    far it is; `DELETE /v1/streams/{id}` ends and forgets it.
    """

    def __init__(self, api: ApiContext, endpoints: Mapping[str, AnswerFrom]) -> None:
        self._api = api
        self._endpoints = endpoints

    async def __call__(self, connection: Connection, request: Request) -> None:
        api, request_id = self._api, request.id
        headers, kept = api.headers(request), api.service.kept
        path = request.path.removeprefix(STREAMS).removesuffix(b"/")
        answer_id = path.removesuffix(_STATUS).decode("latin1")
        reader: KeptReader | None = None
        try:
            with api.refusal_log(request_id, STREAMS.decode(), request.arrived_at, request.key):
                connection.watch()
                position_of(request)
                tenant = api.service.clients.tenant_of(request.key)
                await kept.ready()
                answer = kept.look(answer_id, tenant)
                api.service.clients.tenant_of(request.key, answer.request.body)
                if request.method == b"GET" and not path.endswith(_STATUS):
                    reader = kept.find(answer_id, tenant)
            if reader is not None:
                log_again(reader, request_id)
                answer_from = self._endpoints[answer.endpoint]
                await answer_from(connection, request, answer.request, headers, reader)
                return
            body = _status(answer)
            if request.method == b"DELETE":
                kept.end(answer)
                body = {"id": answer_id, "object": "penstock.answer", "deleted": True}
            await connection.respond(200, headers.headers() + JSON_TYPE, encode(body))
        except Refusal as refusal:
            log.debug("request_refused", request_id=request_id, code=refusal.body.code, status=refusal.body.status)
            await connection.respond_error(refusal.body, headers.headers())
