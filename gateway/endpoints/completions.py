"""`POST /v1/chat/completions`, `/v1/completions` and `/v1/messages`, with and without streaming."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
import trio

from actors.api.errors import Conflict, ErrorBody, Refusal
from actors.api.request import InferenceRequest, ParsedBody
from actors.api.response import Delta, Done, ResponseEvent, Served, Start, Usage
from actors.kept.kept_answer import KeptReader
from actors.kernel.clock import loop_clock
from actors.request.response_stream import EventSink
from gateway.anthropic.message_answer import message_body
from gateway.anthropic.message_events import MessageRenderer, message_error_event
from gateway.anthropic.message_request import MessagesBody, read_message
from gateway.endpoints.api_context import ApiContext, whole_answer
from gateway.endpoints.kept_answers import (
    EVENTS_LOST,
    digest_of,
    in_background,
    keep,
    kept_lines,
    may_keep,
    opened,
    position_of,
    respond_begun,
)
from gateway.errors import ClientGone
from gateway.http.connection import INTERNAL_ERROR, Connection
from gateway.http.event_renderer import EventRenderer
from gateway.http.event_stream import EventStream
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.requests.chat_request import ChatBody, read_chat
from gateway.openai.requests.completion_request import CompletionBody, read_completion
from gateway.openai.requests.json_body import BodyDecoder, GivenFields
from gateway.openai.responses.completion import (
    ChatChunks,
    Choice,
    Chunks,
    CompletionChunks,
    Identity,
    chat_body,
    completion_body,
)
from gateway.openai.responses.headers import DecisionHeaders, served_headers, start_headers
from gateway.openai.responses.sse import SseRenderer, error_event

log = structlog.get_logger()


class Endpoint(msgspec.Struct, frozen=True):
    """The differences between the endpoints."""

    name: str
    decoder: BodyDecoder
    read: Callable[[Any, GivenFields, int], ParsedBody]
    renderer: Callable[[Identity, ParsedBody, int | None], EventRenderer]
    """Of a stream; the number is the last event that the client has, None: events have no numbers."""
    whole: Callable[[Identity, Sequence[Any], Usage, Served, ParsedBody], bytes]
    break_off: Callable[[ErrorBody, str, EventRenderer | None], bytes] = lambda error, *_: error_event(error)
    """The end of a stream that has failed; the string is the request's id. None: nothing was rendered before."""
    choice: Callable[[], Any] = Choice
    """Collects one choice of an answer that is not streamed."""

    takes_extra: bool = False
    """A body may have fields beyond the API that some upstream knows."""

    def parse(self, raw: Body, max_choices: int, extra_names: Collection[str] = ()) -> ParsedBody:
        """`extra_names`: of such fields. Raises `BadField`."""
        body, given = self.decoder.decode(raw, extra_names if self.takes_extra else ())
        return self.read(body, given, max_choices)


def _in_chunks(chunks: type[Chunks], identity: Identity, body: ParsedBody, after: int | None) -> SseRenderer:
    view = body.view
    made = chunks(identity, view, include_usage=view.usage)
    return SseRenderer(made, include_usage=view.usage, continuous=view.continuous_usage, after=after)


CHAT = Endpoint(
    "chat.completions", BodyDecoder(ChatBody), read_chat, partial(_in_chunks, ChatChunks), chat_body, takes_extra=True
)
COMPLETION = Endpoint(
    "completions",
    BodyDecoder(CompletionBody),
    read_completion,
    partial(_in_chunks, CompletionChunks),
    completion_body,
    takes_extra=True,
)


def _break_off_message(error: ErrorBody, request_id: str, _: EventRenderer | None) -> bytes:
    return message_error_event(error, request_id)


MESSAGE = Endpoint(
    "messages", BodyDecoder(MessagesBody), read_message, MessageRenderer, message_body, _break_off_message
)


class CompletionHandler:
    """Handles the requests of one endpoint."""

    def __init__(self, api: ApiContext, endpoint: Endpoint) -> None:
        self._api = api
        self._endpoint = endpoint

    async def __call__(self, connection: Connection, request: Request) -> None:
        parse = partial(self._parse, request)
        await self._api.handle(connection, request, parse, self._answer)

    def _parse(self, request: Request, raw: Body) -> ParsedBody:
        request.digest = digest_of(request, raw)
        return self._endpoint.parse(raw, self._api.max_choices, self._api.extra_names)

    async def _answer(
        self, connection: Connection, request: Request, inference: InferenceRequest, headers: DecisionHeaders
    ) -> None:
        reader = (
            await keep(self._api, request, inference, self._endpoint.name)
            if may_keep(request, inference.body)
            else None
        )
        if reader is not None:
            headers.request_line += kept_lines(reader, inference.request_id)
            if in_background(request, inference.body) and await self._begun(connection, reader, headers):
                return
            inference = reader.answer.request
        await self.answer(connection, request, inference, headers, reader)

    async def _begun(self, connection: Connection, reader: KeptReader, headers: DecisionHeaders) -> bool:
        """Respond that an answer in the background has begun; False: the client gets the answer itself."""
        await respond_begun(self._api, connection, reader, headers.headers())
        return True

    def _position(self, request: Request) -> int:
        """The number of the last event of a kept answer that the client has. Raises BadField."""
        return position_of(request)

    async def answer(
        self,
        connection: Connection,
        request: Request,
        inference: InferenceRequest,
        headers: DecisionHeaders,
        reader: KeptReader | None,
    ) -> None:
        """Answer with a new response, or with what `reader` reads of a kept one."""
        try:
            if inference.body.streamed:
                after = None if reader is None else self._position(request)
                stream = connection.event_stream(request, headers.request_line)
                await self._stream(stream, inference, headers, reader, after)
            else:
                await self._whole(connection, inference, headers, reader)
        finally:
            if reader is not None:
                reader.close()

    async def _whole(
        self, connection: Connection, inference: InferenceRequest, headers: DecisionHeaders, reader: KeptReader | None
    ) -> None:
        body = inference.body
        choices = [self._endpoint.choice() for _ in range(len(body.prompts) * body.n)]
        response = await opened(self._api, inference, reader)
        headers.decided = response.decided
        try:
            done = await whole_answer(response, partial(gather, choices))
            identity = self._identity(inference, done.served.model_served, headers, reader)
            answer = self._endpoint.whole(identity, choices, done.usage, done.served, body)
            await self._ended(inference, reader, answer)
            await connection.respond(200, headers.headers() + JSON_TYPE + served_headers(done.served), answer)
        finally:
            response.close()

    async def _stream(
        self,
        stream: EventStream,
        inference: InferenceRequest,
        headers: DecisionHeaders,
        reader: KeptReader | None,
        after: int | None,
    ) -> None:
        renderer: EventRenderer | None = None
        try:
            response = await opened(self._api, inference, reader)
            headers.decided = response.decided
            stream.add_headers(headers.decision_lines())
            try:
                if reader is not None and await reader.answer.begins():
                    # Its client can come back with the id for what is made of it, even to the next process.
                    await self._api.service.kept.written()
                    await stream.begin(trio.current_time())
                events = await response.next_events()
                stream.add_headers(_first_headers(events))
                identity = self._identity(inference, _model_of(events), headers, reader)
                renderer = self._endpoint.renderer(identity, inference.body, after)
                known = reader is not None and reader.answer.restored > 0
                while events and not renderer.ended:
                    data = renderer.render(events)
                    if known and renderer.number < (after or 0):
                        raise Conflict("events_lost", EVENTS_LOST)
                    known = False
                    if renderer.whole:
                        await self._ended(inference, reader, renderer.whole)
                    if data or renderer.ended:
                        first = not stream.started
                        await stream.send(data, trio.current_time(), last=renderer.ended)
                        if first:
                            emit = partial(_emit, stream, renderer, loop_clock())
                            response.emit_through(EventSink(stream.is_ready, emit, stream.flush))
                    if not renderer.ended:
                        events = await response.next_events()
                if not renderer.ended:
                    raise Refusal(INTERNAL_ERROR)
            finally:
                response.close()
        except Refusal as refusal:
            await self._break_off(stream, refusal.body, inference.request_id, renderer)
        except ClientGone:
            raise
        except Exception:
            log.exception("stream_failed", request_id=inference.request_id)
            await self._break_off(stream, INTERNAL_ERROR, inference.request_id, renderer)

    async def _ended(self, inference: InferenceRequest, reader: KeptReader | None, answer: bytes) -> None:
        """Called with the whole answer before the client gets its end; for streams if the renderer makes it."""

    async def _break_off(
        self, stream: EventStream, error: ErrorBody, request_id: str, renderer: EventRenderer | None
    ) -> None:
        """An HTTP error if the response's head was not sent yet, else the terminal error event."""
        if not stream.started:
            raise Refusal(error)
        end = self._endpoint.break_off(error, request_id, renderer)
        await stream.send(end, trio.current_time(), last=True)

    def _identity(
        self, inference: InferenceRequest, served: str, headers: DecisionHeaders, reader: KeptReader | None
    ) -> Identity:
        created = None if reader is None else reader.answer.created
        return self._api.identity(inference.request_id, inference.body.model, served, headers.decided.policy, created)


def gather(choices: Sequence[Choice], event: Start | Delta) -> None:
    """Add what has come of an answer to its choices."""
    match event:
        case Start(echo=echo):
            for choice, text in zip(choices, echo, strict=False):
                choice.echo = text
        case Delta():
            choices[event.index].take(event)


def _emit(
    stream: EventStream, renderer: EventRenderer, clock: Callable[[], float], events: list[ResponseEvent]
) -> bool:
    data = renderer.render(events)
    return not data or stream.send_now(data, clock())


def _first_headers(events: Sequence[ResponseEvent]) -> bytes:
    """Headers from the first events. A short answer may already be complete with them."""
    for event in reversed(events):
        match event:
            case Done():
                return served_headers(event.served)
            case Start():
                return start_headers(event)
    return b""


def _model_of(events: Sequence[ResponseEvent]) -> str:
    """The model that answers; "" if the first events do not contain it."""
    return next((event.model_served for event in events if isinstance(event, Start)), "")
