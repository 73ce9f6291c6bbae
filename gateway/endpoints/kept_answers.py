"""Kept answers over HTTP: `Idempotency-Key` and `x-penstock-resumable` on requests, and `GET /v1/streams/{id}`."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping

import structlog

from actors.api.errors import Refusal
from actors.api.request import InferenceRequest
from actors.kept.kept_answer import KeptReader
from gateway.endpoints.api_context import ApiContext, new_request_id
from gateway.errors import BadField, HttpError
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.openai.responses.headers import DecisionHeaders

STREAMS = b"/v1/streams/"
IDEMPOTENCY_KEY = b"idempotency-key"
_RESUMABLE = b"x-penstock-resumable"
_MAX_KEY = 255
_MAX_POSITION = 1 << 53
log = structlog.get_logger()


def digest_of(request: Request, body: Body) -> bytes:
    """What an Idempotency-Key stands for; b"" without one."""
    if request.header(IDEMPOTENCY_KEY) is None:
        return b""
    return hashlib.sha256(request.path.removesuffix(b"/") + b"\n" + body).digest()


def keep(api: ApiContext, request: Request, inference: InferenceRequest, endpoint: str) -> KeptReader | None:
    """A reader of the request's kept answer; None: the client asks for none, or it cannot be kept now.

    Raises HttpError for a bad header, IdempotencyKeyReused and BadKey, after logging them.
    """
    if request.header(IDEMPOTENCY_KEY) is None and request.header(_RESUMABLE) is None:
        return None
    with api.refusal_log(inference.request_id, inference.credentials.path, request.arrived_at, request.key):
        reader = _keep(api, request, inference, endpoint)
    if reader is not None and reader.answer.request is not inference:
        _log_again(reader, inference.request_id)
    return reader


def _keep(api: ApiContext, request: Request, inference: InferenceRequest, endpoint: str) -> KeptReader | None:
    key, resumable = request.header(IDEMPOTENCY_KEY), request.header(_RESUMABLE)
    if key is not None and not (0 < len(key) <= _MAX_KEY and key.isascii()):
        raise HttpError(400, "bad_header", f"Idempotency-Key must be 1 to {_MAX_KEY} ASCII characters.")
    if resumable not in {None, b"true", b"false"}:
        raise HttpError(400, "bad_header", "x-penstock-resumable must be 'true' or 'false'.")
    if key is None and (resumable == b"false" or not inference.body.streamed):
        return None
    service = api.service
    tenant = service.tenant_of(request.key, inference.body)
    text = "" if key is None else key.decode("ascii")
    created = int(service.wall())
    return service.kept.begin(inference, tenant, endpoint=endpoint, created=created, key=text, digest=request.digest)


def kept_lines(reader: KeptReader, request_id: str) -> bytes:
    """Header lines: the id by which the answer is read again, and whether it was there before this request."""
    kept_id = reader.answer.request.request_id
    line = b"x-penstock-stream: %b\r\n" % kept_id.encode()
    return line if kept_id == request_id else line + b"idempotent-replayed: true\r\n"


def _log_again(reader: KeptReader, request_id: str) -> None:
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
        elif part:
            raise BadField(name.decode("latin1")[:64], "The only parameter here is 'after', a number of an event.")
    if not last:
        return 0
    if not last.isdigit() or int(last) > _MAX_POSITION:
        raise BadField("after", "'after' and Last-Event-ID are the number of an event: the last `id` that came.")
    return int(last)


AnswerFrom = Callable[[Connection, Request, InferenceRequest, DecisionHeaders, KeptReader | None], Awaitable[None]]
"""How an endpoint answers in its own wire format, from a kept answer if there is a reader of one."""


class StreamHandler:
    """Handles `GET /v1/streams/{id}?after=N`: the rest of a kept answer, in the wire format of its endpoint."""

    def __init__(self, api: ApiContext, endpoints: Mapping[str, AnswerFrom]) -> None:
        self._api = api
        self._endpoints = endpoints

    async def __call__(self, connection: Connection, request: Request) -> None:
        api, request_id = self._api, new_request_id()
        headers = api.headers(request_id, request.key)
        try:
            with api.refusal_log(request_id, STREAMS.decode(), request.arrived_at, request.key):
                connection.watch()
                position_of(request)
                tenant = api.service.tenant_of(request.key)
                answer_id = request.path.removeprefix(STREAMS).removesuffix(b"/").decode("latin1")
                reader = api.service.kept.find(answer_id, tenant)
                try:
                    api.service.tenant_of(request.key, reader.answer.request.body)
                except Refusal:
                    reader.close()
                    raise
            _log_again(reader, request_id)
            answer = self._endpoints[reader.answer.endpoint]
            await answer(connection, request, reader.answer.request, headers, reader)
        except Refusal as refusal:
            log.debug("request_refused", request_id=request_id, code=refusal.body.code, status=refusal.body.status)
            await connection.respond_error(refusal.body, headers.headers())
