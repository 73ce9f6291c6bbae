"""The WebSocket `/v1/responses`: many responses on one connection, in the events of the stream over HTTP."""

from collections import deque
from functools import partial

import msgspec
import structlog
import trio

from actors.api.errors import Refusal
from actors.api.request import Credentials, InferenceRequest
from actors.api.response import Start
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.responses.responses import ResponseHandler
from gateway.endpoints.socket_session import SocketSession
from gateway.errors import HttpError
from gateway.http.connection import INTERNAL_ERROR
from gateway.http.request import new_request_id
from gateway.http.websocket import WebSocket
from gateway.openai.requests.json_body import BodyDecoder
from gateway.responses_api.event_renderer import ResponseRenderer
from gateway.responses_api.socket_messages import (
    CreateMessage,
    CreatePeek,
    check_peek,
    event_messages,
    read_create,
    socket_error,
)

_PATH = "/v1/responses"
_peek = BodyDecoder(CreatePeek)
_create = BodyDecoder(CreateMessage)
log = structlog.get_logger()


class ResponseSession(SocketSession):
    """The responses of one WebSocket."""

    def __init__(
        self, responses: ResponseHandler, api: ApiContext, credentials: Credentials, socket: WebSocket, max_streams: int
    ) -> None:
        super().__init__(api, credentials, socket, max_streams)
        self._responses = responses
        self._streams: dict[str | None, deque[InferenceRequest]] = {}
        """By `stream_id`: the request that runs, and those that wait for it."""

    def _is_idle(self) -> bool:
        return not self._streams

    async def _take(self, text: str | None, nursery: trio.Nursery) -> None:
        request_id, arrived_at, stream_id = new_request_id(), trio.current_time(), None
        key = self._credentials.api_key
        try:
            with self._api.refusal_log(request_id, _PATH, arrived_at, key):
                if text is None:
                    raise HttpError(400, "binary_message", "Messages must be text frames that hold JSON.")
                raw = text.encode()
                peek, _ = await self._api.reading(len(raw), partial(_peek.decode, raw), key)
                check_peek(peek)
                stream_id = peek.stream_id
                self._check_room(sum(map(len, self._streams.values())))
                message, given = await self._api.reading(len(raw), partial(_create.decode, raw), key)
                body = read_create(message, given)
        except Refusal as refusal:
            await self._socket.send(socket_error(refusal.body, stream_id))
            return
        inference = InferenceRequest(
            request_id=request_id,
            credentials=self._credentials,
            body=body,
            body_bytes=len(raw),
            arrived_at=arrived_at,
        )
        if stream_id in self._streams:
            self._streams[stream_id].append(inference)
        else:
            self._streams[stream_id] = deque([inference])
            nursery.start_soon(self._serve, stream_id)

    async def _serve(self, stream_id: str | None) -> None:
        """The requests of one `stream_id`, until none waits."""
        requests = self._streams[stream_id]
        while requests:
            # Its deadlines begin when its turn has come.
            await self._answer(stream_id, msgspec.structs.replace(requests[0], arrived_at=trio.current_time()))
            requests.popleft()
        del self._streams[stream_id]
        self._end_if_finished()

    async def _answer(self, stream_id: str | None, inference: InferenceRequest) -> None:
        renderer: ResponseRenderer | None = None
        error = INTERNAL_ERROR
        try:
            with self._api.refusal_log(inference.request_id, _PATH, inference.arrived_at, self._credentials.api_key):
                inference = await self._responses.continued(inference)
            response = await self._api.service.open(inference)
            try:
                while events := await response.next_events():
                    if renderer is None:
                        served = next((event.model_served for event in events if isinstance(event, Start)), "")
                        identity = self._api.identity(
                            inference.request_id, inference.body.model, served, response.decided.policy
                        )
                        renderer = ResponseRenderer(identity, inference.body, None)
                    messages = event_messages(renderer.render(events), stream_id)
                    if renderer.whole:
                        await self._responses.store(inference, renderer.whole)
                    if messages:
                        await self._socket.send(*messages)
                    if renderer.whole:
                        return
            finally:
                response.close()
        except Refusal as refusal:
            error = refusal.body
        except Exception:
            log.exception("stream_failed", request_id=inference.request_id)
        if renderer is None:
            await self._socket.send(socket_error(error, stream_id))
        else:
            await self._socket.send(*event_messages(renderer.failure(error), stream_id))
