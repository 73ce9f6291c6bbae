"""Shared by all endpoints: the service, credentials, reading of bodies, and answers that are not streamed."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import msgspec
import structlog

from actors.api.errors import ErrorBody, Refusal
from actors.api.request import Credentials, InferenceRequest, ParsedBody
from actors.api.response import DecisionInfo, Delta, Done, Failed, Start
from actors.kept.kept_answer import KeptReader
from actors.kernel.thread_bridge import LongWork
from actors.request.response_stream import ResponseStream
from actors.service import Service
from gateway.anthropic.errors import anthropic_error, is_anthropic
from gateway.anthropic.rate_limits import message_limit_lines
from gateway.errors import ClientGone, HttpError
from gateway.example_request import ExamplePath
from gateway.http.connection import INTERNAL_ERROR, Connection
from gateway.http.request import KEY_HEADERS, Body, Request, new_request_id
from gateway.http.response_head import error_object
from gateway.openai.responses.completion import Identity
from gateway.openai.responses.headers import DecisionHeaders, limit_lines

T = TypeVar("T")
Answer = Callable[[Connection, Request, InferenceRequest, DecisionHeaders], Awaitable[None]]

_AT_ONCE_BYTES = 64 * 1024
"""A body up to this length is parsed within about two milliseconds; a thread would cost more."""
_MAX_TAGS = 16
_MAX_TAG_CHARACTERS = 64
_long_work = LongWork()
log = structlog.get_logger()


class ApiContext(msgspec.Struct, frozen=True, kw_only=True):
    """The service, and the settings of endpoints."""

    service: Service
    max_choices: int
    max_inputs: int
    extra_names: frozenset[str] = frozenset()
    """Fields beyond the API that some upstream knows."""
    example: ExamplePath = "/v1/chat/completions"
    """The address of the request that the home page shows."""
    shows_served: bool = False
    """The field `model` of an answer names the model that answered, not the one that was requested."""

    @contextmanager
    def refusal_log(self, request_id: str, path: str, arrived_at: float, key: str | None) -> Iterator[None]:
        """Around the reading of a request: log it if that raises. Later failures the service logs."""
        try:
            yield
        except BaseException as error:
            self._log_unread(request_id, path, arrived_at, key, error)
            raise

    def _log_unread(self, request_id: str, path: str, arrived_at: float, key: str | None, error: BaseException) -> None:
        tenant, gone = self.service.clients.known_tenant(key), isinstance(error, ClientGone)
        self.service.request_log.not_read(request_id, path, arrived_at, error, tenant=tenant, gone=gone)

    def headers(self, request: Request | None) -> DecisionHeaders:
        """`request` is None if the bytes were no HTTP request."""
        key, request_id = (None, new_request_id()) if request is None else (request.key, request.id)
        decided = DecisionInfo(self.service.policy)
        if request is None or not is_anthropic(request):
            return DecisionHeaders(request_id, decided, partial(self._limit_lines, key))
        headers = DecisionHeaders(request_id, decided, partial(self._message_limit_lines, key))
        headers.request_line += b"request-id: %b\r\n" % request_id.encode()
        return headers

    def _limit_lines(self, key: str | None) -> bytes:
        return limit_lines(self.service.clients.rate_limits(key))

    def _message_limit_lines(self, key: str | None) -> bytes:
        limits = self.service.clients.rate_limits(key)
        return limit_lines(limits) + message_limit_lines(limits, self.service.wall())

    @staticmethod
    def error_format(error: ErrorBody, request: Request | None) -> bytes:
        """An error's body in the format of the API that the request is for."""
        if request is None or not is_anthropic(request):
            return error_object(error)
        return anthropic_error(error, request.id)

    async def handle(
        self, connection: Connection, request: Request, parse: Callable[[Body], ParsedBody], answer: Answer
    ) -> None:
        """Read one request and answer it. When the client hangs up, the connection's cancel scope cancels this."""
        headers = self.headers(request)
        try:
            await answer(connection, request, await self._read(connection, request, parse), headers)
        except Refusal as refusal:
            log.debug("request_refused", request_id=request.id, code=refusal.body.code, status=refusal.body.status)
            await connection.respond_error(refusal.body, headers.headers())

    async def _read(
        self, connection: Connection, request: Request, parse: Callable[[Body], ParsedBody]
    ) -> InferenceRequest:
        """Parse the body and release it. Raises Refusal after logging it."""
        try:
            size = len(request.body)
            body = await self.reading(size, partial(parse, request.body), request.key)
            inference = InferenceRequest(
                request_id=request.id,
                credentials=credentials_of(request),
                body=body,
                body_bytes=size,
                arrived_at=request.arrived_at,
            )
            connection.drop_body(request)
            connection.watch()
        except BaseException as error:
            path = request.path.decode("latin1")
            self._log_unread(request.id, path, request.arrived_at, request.key, error)
            raise
        return inference

    async def reading(self, size: int, work: Callable[[], T], key: str | None) -> T:
        """The result of `work`, which parses or writes a body of `size` bytes that belongs to this key.

        Large ones are the work of a thread, so that they do not delay other streams.
        """
        if size <= _AT_ONCE_BYTES:
            return work()
        return await _long_work.run(work, self.service.clients.work_of(key))

    def refused(self, error: ErrorBody, request: Request | None) -> bytes:
        """Log a request that was refused before the service got it; returns header lines for the answer.

        `request` is None if the bytes were no HTTP request.
        """
        key, path, arrived_at = None, "", None
        if request is not None:
            key, path, arrived_at = request.key, request.path.decode("latin1"), request.arrived_at
        headers = self.headers(request)
        log.debug("request_refused", request_id=headers.request_id, code=error.code, status=error.status)
        tenant = self.service.clients.known_tenant(key)
        self.service.request_log.not_read(headers.request_id, path, arrived_at, Refusal(error), tenant=tenant)
        return headers.headers()

    def identity(self, request_id: str, asked: str, served: str, policy: str, created: int | None = None) -> Identity:
        """The fields that are the same in all parts of an answer.

        `asked`, `served`: names of the model requested and of the one that answered. `policy`: digest of the policy.
        `created`: seconds since 1970; None: now.
        """
        created = int(self.service.wall()) if created is None else created
        return Identity(request_id, self.model_field(asked, served), created, f"fp_{policy}")

    def model_field(self, asked: str, served: str) -> str:
        """The value of an answer's field `model`."""
        return served if self.shows_served and served else asked


def credentials_of(request: Request) -> Credentials:
    """Raises `HttpError` for invalid headers."""
    return Credentials(
        request.key,
        request.path.decode("latin1"),
        tuple([(name, value) for name, value in request.headers if name not in KEY_HEADERS]),
        _tags(request.header(b"x-penstock-tags")),
    )


async def whole_answer(response: ResponseStream | KeptReader, take: Callable[[Start | Delta], None]) -> Done:
    """Pass all events but the last to `take`; returns the last one.

    Raises Refusal: nothing was sent yet, so that a failure has its true status.
    """
    while events := await response.next_events():
        for event in events:
            match event:
                case Start() | Delta():
                    take(event)
                case Done():
                    return event
                case Failed():
                    raise Refusal(event.error)
    raise Refusal(INTERNAL_ERROR)


def _tags(value: bytes | None) -> tuple[str, ...]:
    if value is None:
        return ()
    tags = [tag for each in value.decode("latin1").split(",") if (tag := each.strip())]
    if len(tags) > _MAX_TAGS or any(len(tag) > _MAX_TAG_CHARACTERS for tag in tags):
        raise HttpError(
            400, "bad_header", f"x-penstock-tags: at most {_MAX_TAGS} tags of {_MAX_TAG_CHARACTERS} characters each."
        )
    # Each counts once.
    return tuple(dict.fromkeys(tags))
