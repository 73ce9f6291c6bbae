"""Stored responses by their id, and those that still run: `/v1/responses/{id}`, its input items, and its end."""

import msgspec
import structlog

from actors.api.errors import NotFound, Refusal
from actors.kept.kept_answer import KeptAnswer
from actors.stored.response_store import DeleteResponse, GetResponse, StoredResponse
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.kept_answers import log_again
from gateway.endpoints.responses.responses import (
    RESPONSE,
    RESPONSES,
    STARTING_AFTER,
    ResponseHandler,
    kept_response,
    parameters_of,
)
from gateway.errors import BadField
from gateway.http.connection import Connection
from gateway.http.request import Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.json_text import encode
from gateway.responses_api.response_object import ID_PREFIX, asked_of
from gateway.responses_api.stored import items_of_response, page_from, page_of, put_response, shown_items

_CANCEL, _INPUT = b"cancel", b"input_items"
_METHODS = {b"": b"GET, DELETE", _CANCEL: b"POST", _INPUT: b"GET"}
log = structlog.get_logger()


def methods_of(path: bytes) -> bytes:
    """The methods of an address below `RESPONSES`; b"": there is none."""
    response_id, _, rest = path.removeprefix(RESPONSES).removesuffix(b"/").partition(b"/")
    return _METHODS.get(rest, b"") if response_id else b""


class StoredResponseHandler:
    """Handles what has an id already."""

    def __init__(self, api: ApiContext, responses: ResponseHandler) -> None:
        self._api = api
        self._responses = responses

    async def __call__(self, connection: Connection, request: Request) -> None:
        api = self._api
        headers = api.headers(request)
        name, _, what = request.path.removeprefix(RESPONSES).removesuffix(b"/").partition(b"/")
        response_id = name.decode("latin1")
        try:
            with api.refusal_log(request.id, RESPONSES.decode(), request.arrived_at, request.key):
                connection.watch()
                tenant = api.service.clients.tenant_of(request.key)
                await api.service.kept.ready()
                kept = self._kept(response_id, tenant)
                streams = request.method == b"GET" and not what and _streams(request, kept)
                body = b"" if streams else await self._carry_out(request, what, response_id, tenant, kept)
            if streams and kept is not None:
                reader = api.service.kept.find(kept.request.request_id, tenant)
                log_again(reader, request.id)
                streamed = msgspec.structs.replace(kept.request.body, streamed=True)
                inference = msgspec.structs.replace(kept.request, body=streamed)
                await self._responses.answer(connection, request, inference, headers, reader)
                return
            await connection.respond(200, headers.headers() + JSON_TYPE, body)
        except Refusal as refusal:
            log.debug("request_refused", request_id=request.id, code=refusal.body.code, status=refusal.body.status)
            await connection.respond_error(refusal.body, headers.headers())

    async def _carry_out(
        self, request: Request, what: bytes, response_id: str, tenant: str, kept: KeptAnswer | None
    ) -> bytes:
        """The body of the answer. Raises Refusal."""
        if request.method == b"DELETE":
            return await self._delete(response_id, tenant, kept)
        if what == _CANCEL:
            return await self._cancel(response_id, tenant, kept)
        if what == _INPUT:
            page = page_of(parameters_of(request))
            if kept is not None:
                items = shown_items(kept.request.request_id, asked_of(kept.request.body).items)
            else:
                items = items_of_response(await self._stored(response_id, tenant))
            return encode(page_from(items, page))
        if kept is not None:
            return encode(kept_response(self._api, kept))
        return (await self._stored(response_id, tenant)).body

    async def _delete(self, response_id: str, tenant: str, kept: KeptAnswer | None) -> bytes:
        stored = self._api.service.stored
        if kept is not None:
            # First, as it would be stored if it ended meanwhile.
            self._api.service.kept.end(kept)
        deleted = stored.keeps and await stored.ask(DeleteResponse(tenant, response_id))
        if kept is None and not deleted:
            raise _not_found(response_id)
        return encode({"id": response_id, "object": "response", "deleted": True})

    async def _cancel(self, response_id: str, tenant: str, kept: KeptAnswer | None) -> bytes:
        if kept is None:
            body = (await self._stored(response_id, tenant)).body
            if not msgspec.json.decode(body)["background"]:
                raise _not_in_background()
            return body
        if not kept.background:
            raise _not_in_background()
        if kept.ended:
            return encode(kept_response(self._api, kept))
        body = encode(kept_response(self._api, kept, "cancelled"))
        asked = asked_of(kept.request.body)
        self._api.service.kept.end(kept)
        if asked.stored:
            put = put_response(body, msgspec.structs.replace(asked, conversation=""))
            await self._api.service.stored.ask(put)
        return body

    def _kept(self, response_id: str, tenant: str) -> KeptAnswer | None:
        """The answer, if it is among those that run or have ended a short time ago."""
        try:
            answer = self._api.service.kept.look(response_id.removeprefix(ID_PREFIX), tenant)
        except NotFound:
            return None
        return answer if answer.endpoint == RESPONSE.name and response_id.startswith(ID_PREFIX) else None

    async def _stored(self, response_id: str, tenant: str) -> StoredResponse:
        """Raises NotFound."""
        stored = self._api.service.stored
        found = await stored.ask(GetResponse(tenant, response_id)) if stored.keeps else None
        if not isinstance(found, StoredResponse):
            raise _not_found(response_id)
        return found


def _streams(request: Request, kept: KeptAnswer | None) -> bool:
    """Whether the events are asked for. Raises BadField."""
    parameters = parameters_of(request)
    if parameters.get("stream", "false") not in {"true", "false"}:
        raise BadField("stream", "'stream' must be true or false.")
    if parameters.get("stream") != "true":
        if STARTING_AFTER in parameters:
            raise BadField(STARTING_AFTER, f"'{STARTING_AFTER}' needs 'stream=true'.")
        return False
    if kept is None:
        raise BadField(
            "stream",
            "The events of this response are not kept: they are while it is in the background, and for a time after.",
        )
    return True


def _not_found(response_id: str) -> NotFound:
    return NotFound("response_not_found", f"Response with id '{response_id[:80]}' not found.")


def _not_in_background() -> BadField:
    return BadField("response_id", "Only a response that was created with 'background': true can be cancelled.")
