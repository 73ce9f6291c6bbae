"""`/v1/stream`: many requests at once on one WebSocket; the protocol is documented in docs/websocket.md."""

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import trio

from actors.api.errors import Conflict, ErrorBody, Refusal
from actors.api.request import Credentials, InferenceRequest, ParsedBody
from actors.api.response import DecisionInfo, Delta, Done, Failed, ResponseEvent, Start
from actors.kept.kept_answer import KeptReader
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.kept_answers import EVENTS_LOST, log_again, opened
from gateway.endpoints.socket_session import SocketSession
from gateway.errors import BadField, HttpError
from gateway.http.connection import INTERNAL_ERROR
from gateway.http.request import new_request_id
from gateway.http.websocket import WebSocket
from gateway.openai.requests.chat_request import read_chat
from gateway.openai.requests.completion_request import read_completion
from gateway.openai.requests.json_body import BodyDecoder, GivenFields, nearest
from gateway.openai.ws_messages import (
    MAX_ID_CHARACTERS,
    Cancel,
    Peek,
    Renderer,
    Resume,
    StartChat,
    StartCompletion,
    error_message,
)

_PATH = "/v1/stream"
_peek = BodyDecoder(Peek)
_cancel = BodyDecoder(Cancel)
_resume = BodyDecoder(Resume)
_ENDPOINTS: dict[str, tuple[BodyDecoder, Callable[[Any, GivenFields, int], ParsedBody]]] = {
    "chat.completions": (BodyDecoder(StartChat), read_chat),
    "completions": (BodyDecoder(StartCompletion), read_completion),
}
log = structlog.get_logger()


class StreamSession(SocketSession):
    """The requests of one WebSocket on `/v1/stream`."""

    def __init__(self, api: ApiContext, credentials: Credentials, socket: WebSocket, max_streams: int) -> None:
        super().__init__(api, credentials, socket, max_streams)
        self._running: dict[str, trio.CancelScope] = {}
        """By the client's id."""

    def _is_idle(self) -> bool:
        return not self._running

    async def _take(self, text: str | None, nursery: trio.Nursery) -> None:
        """Handle one message. An error in it is answered, and other requests continue."""
        peek: Peek | None = None
        arrived_at = trio.current_time()
        try:
            with self._api.refusal_log("", _PATH, arrived_at, self._credentials.api_key):
                if text is None:
                    raise HttpError(400, "binary_message", "Messages must be text frames that hold JSON.")
                raw = text.encode()
                message, _ = await self._api.reading(len(raw), partial(_peek.decode, raw), self._credentials.api_key)
                if message.id is not None and len(message.id) > MAX_ID_CHARACTERS:
                    raise BadField("id", f"'id' must have at most {MAX_ID_CHARACTERS} characters.")
                peek = message
            match peek.type:
                case "start":
                    await self._start(peek, raw, arrived_at, nursery)
                case "resume":
                    await self._resume(peek, raw, arrived_at, nursery)
                case "cancel":
                    cancel, _ = _cancel.decode(raw)
                    scope = self._running.get(cancel.id)
                    if scope is not None:
                        # None is no error: the request may just have ended.
                        scope.cancel()
                case _:
                    meant = nearest(peek.type, ("start", "resume", "cancel"))
                    hint = f" Did you mean '{meant}'?" if meant else " It must be 'start', 'resume' or 'cancel'."
                    raise BadField("type", f"Unknown message type '{peek.type[:64]}'.{hint}", "unknown_type")
        except Refusal as refusal:
            await self._socket.send(self._rejection(peek, refusal.body))

    def _rejection(self, peek: Peek | None, error: ErrorBody) -> bytes:
        """The error message. An `id` in it ends that request, so one that continues is named in `rejected` only."""
        limits = self._api.service.clients.rate_limits(self._credentials.api_key)
        if peek is not None and peek.id in self._running:
            return error_message(None, error, limits, rejected=peek)
        return error_message(None if peek is None else peek.id, error, limits)

    async def _start(self, peek: Peek, raw: bytes, arrived_at: float, nursery: trio.Nursery) -> None:
        request_id, api, reader = new_request_id(), self._api, None
        with api.refusal_log(request_id, _PATH, arrived_at, self._credentials.api_key):
            message_id = self._free_id(peek)
            inference, resumable = await self._read_start(request_id, peek, raw, arrived_at)
            if resumable:
                await api.service.kept.ready()
                tenant, created = api.service.clients.tenant_of(self._credentials.api_key), int(api.service.wall())
                reader = api.service.kept.begin(inference, tenant, endpoint=peek.endpoint, created=created)
        self._running[message_id] = trio.CancelScope()
        nursery.start_soon(self._serve, message_id, inference, reader, 0)

    async def _resume(self, peek: Peek, raw: bytes, arrived_at: float, nursery: trio.Nursery) -> None:
        request_id, service = new_request_id(), self._api.service
        with self._api.refusal_log(request_id, _PATH, arrived_at, self._credentials.api_key):
            message_id = self._free_id(peek)
            resume, _ = _resume.decode(raw)
            if resume.after < 0:
                raise BadField("after", "'after' is the 'number' of the last message that came.")
            await service.kept.ready()
            tenant = service.clients.tenant_of(self._credentials.api_key)
            answer = service.kept.look(resume.stream, tenant)
            service.clients.tenant_of(self._credentials.api_key, answer.request.body)
            reader = service.kept.find(resume.stream, tenant)
        log_again(reader, request_id)
        self._running[message_id] = trio.CancelScope()
        nursery.start_soon(self._serve, message_id, reader.answer.request, reader, resume.after)

    def _free_id(self, peek: Peek) -> str:
        """The id of a message that begins something. Raises BadField and HttpError."""
        if not peek.id:
            raise BadField("id", f"A '{peek.type}' needs an 'id', a string that names the request.", "missing_field")
        if peek.id in self._running:
            raise BadField("id", f"The id '{peek.id}' names a request that is still running.", "duplicate_id")
        self._check_room(len(self._running))
        return peek.id

    async def _read_start(
        self, request_id: str, peek: Peek, raw: bytes, arrived_at: float
    ) -> tuple[InferenceRequest, bool]:
        """The request, and whether its answer is to be kept."""
        if peek.endpoint not in _ENDPOINTS:
            raise BadField("endpoint", "'endpoint' must be 'chat.completions' or 'completions'.")
        decoder, read = _ENDPOINTS[peek.endpoint]
        body, given = await self._api.reading(
            len(raw), partial(decoder.decode, raw, self._api.extra_names), self._credentials.api_key
        )
        if body.stream is False:
            raise BadField("stream", "Answers on this connection are always streamed: leave 'stream' out.")
        body.stream = True
        parsed = read(body, given, self._api.max_choices)
        if parsed.view.echo:
            raise BadField(
                "echo", "'echo' is not supported on the WebSocket: leave it out, or use POST /v1/completions."
            )
        inference = InferenceRequest(
            request_id=request_id,
            credentials=self._credentials,
            body=parsed,
            body_bytes=len(raw),
            arrived_at=arrived_at,
        )
        return inference, body.resumable

    async def _serve(self, message_id: str, inference: InferenceRequest, reader: KeptReader | None, after: int) -> None:
        limits = partial(self._api.service.clients.rate_limits, self._credentials.api_key)
        view = inference.body.view
        renderer = Renderer(message_id, view, limits, None if reader is None else after)
        try:
            with self._running[message_id] as scope:
                await self._answer(inference, renderer, reader, after)
        finally:
            del self._running[message_id]
            if reader is not None:
                reader.close()
        if scope.cancelled_caught:
            if reader is not None:
                self._api.service.kept.end(reader.answer)
            error = HttpError(499, "cancelled", "The client cancelled this request.").body
            await self._socket.send(renderer.error(error))
        self._end_if_finished()

    async def _answer(
        self, inference: InferenceRequest, renderer: Renderer, reader: KeptReader | None, after: int
    ) -> None:
        known = reader is not None and reader.answer.restored > 0
        try:
            response = await opened(self._api, inference, reader)
            try:
                while events := await response.next_events():
                    ends = isinstance(events[-1], Done | Failed)
                    messages = _render(events, renderer, inference.request_id, response.decided)
                    messages = renderer.numbered(messages, ends=ends)
                    if known and renderer.number < after:
                        raise Conflict("events_lost", EVENTS_LOST)
                    known = False
                    if messages:
                        await self._socket.send(*messages)
                    if ends:
                        break
                else:
                    raise Refusal(INTERNAL_ERROR)
            finally:
                response.close()
        except Refusal as refusal:
            await self._socket.send(renderer.error(refusal.body))
        except Exception:
            log.exception("stream_failed", request_id=inference.request_id)
            await self._socket.send(renderer.error(INTERNAL_ERROR))


def _render(events: list[ResponseEvent], renderer: Renderer, request_id: str, decided: DecisionInfo) -> list[bytes]:
    messages = []
    for event in events:
        match event:
            case Delta():
                messages.append(renderer.token(event))
            case Start():
                messages.append(renderer.started(request_id, event, decided))
            case Done():
                messages.append(renderer.usage(event.usage))
                messages.append(renderer.done(event))
            case Failed():
                messages.append(renderer.usage(event.usage))
                messages.append(renderer.error(event.error))
    return messages
