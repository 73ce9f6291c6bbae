"""`/v1/conversations`: made, read, changed and deleted, with their items."""

from functools import partial
from typing import Any

import msgspec
import structlog

from actors.api.errors import NotFound, Refusal
from actors.stored.response_store import (
    AddItems,
    ChangeConversation,
    DeleteConversation,
    DeleteItem,
    GetConversation,
    GetItems,
    PutConversation,
    StoredItem,
)
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.responses.responses import conversation_not_found, parameters_of
from gateway.errors import HttpError
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.json_text import encode
from gateway.openai.requests.json_body import BodyDecoder
from gateway.responses_api.conversations import (
    ConversationChange,
    ConversationFields,
    check_items,
    conversation_fields,
    read_conversation,
)
from gateway.responses_api.stored import items_of_conversation, page_from, page_of, stored_items

CONVERSATIONS = b"/v1/conversations"
_decoder = BodyDecoder(ConversationFields)
log = structlog.get_logger()


def methods_of(path: bytes) -> bytes:
    """The methods of an address below `CONVERSATIONS`; b"": there is none."""
    match path.removeprefix(CONVERSATIONS + b"/").removesuffix(b"/").split(b"/"):
        case [name] if name:
            return b"GET, POST, DELETE"
        case [name, b"items"] if name:
            return b"GET, POST"
        case [name, b"items", item] if name and item:
            return b"GET, DELETE"
    return b""


class ConversationHandler:
    """Handles all addresses of conversations."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def __call__(self, connection: Connection, request: Request) -> None:
        api = self._api
        headers = api.headers(request)
        try:
            with api.refusal_log(request.id, CONVERSATIONS.decode(), request.arrived_at, request.key):
                tenant = api.service.clients.tenant_of(request.key)
                if not api.service.stored.keeps:
                    raise HttpError(400, "not_supported", "This server stores no conversations.")
                change = None
                if request.method == b"POST":
                    read = partial(_read, request.body, request.id)
                    change = await api.reading(len(request.body), read, request.key)
                connection.drop_body(request)
                connection.watch()
                body = await self._carry_out(request, tenant, change)
            await connection.respond(200, headers.headers() + JSON_TYPE, encode(body))
        except Refusal as refusal:
            log.debug("request_refused", request_id=request.id, code=refusal.body.code, status=refusal.body.status)
            await connection.respond_error(refusal.body, headers.headers())

    async def _carry_out(self, request: Request, tenant: str, change: ConversationChange | None) -> Any:
        """The body of the answer. Raises Refusal."""
        path = request.path.removeprefix(CONVERSATIONS).strip(b"/").decode("latin1").split("/")
        name, item_id = path[0], path[2] if len(path) > 2 else ""
        if not name:
            assert change is not None, "only POST is routed here"
            return await self._make("conv_" + request.id, tenant, change)
        if len(path) == 1:
            return await self._one(request.method, name, tenant, change)
        if change is not None:
            return await self._add(name, tenant, change)
        if request.method == b"DELETE":
            if not await self._api.service.stored.ask(DeleteItem(tenant, name, item_id)):
                raise conversation_not_found(name)
            return await self._get(name, tenant)
        items = await self._items(name, tenant)
        if not item_id:
            return page_from(items_of_conversation(items), page_of(parameters_of(request)))
        for item in items:
            if item.id == item_id:
                return items_of_conversation([item])[0]
        raise NotFound("item_not_found", f"Item with id '{item_id[:80]}' not found in this conversation.")

    async def _one(self, method: bytes, name: str, tenant: str, change: ConversationChange | None) -> Any:
        stored = self._api.service.stored
        if method == b"DELETE":
            if not await stored.ask(DeleteConversation(tenant, name)):
                raise conversation_not_found(name)
            return {"id": name, "object": "conversation.deleted", "deleted": True}
        fields = await self._get(name, tenant)
        if change is not None:
            fields = {**fields, "metadata": change.metadata}
            if not await stored.ask(ChangeConversation(tenant, name, encode(fields))):
                raise conversation_not_found(name)
        return fields

    async def _make(self, name: str, tenant: str, change: ConversationChange) -> Any:
        fields = conversation_fields(name, int(self._api.service.wall()), change.metadata)
        await self._api.service.stored.ask(PutConversation(tenant, name, encode(fields)))
        if change.items:
            await self._api.service.stored.ask(AddItems(tenant, name, stored_items(change.items)))
        return fields

    async def _add(self, name: str, tenant: str, change: ConversationChange) -> Any:
        check_items(change)
        if not await self._api.service.stored.ask(AddItems(tenant, name, stored_items(change.items))):
            raise conversation_not_found(name)
        return page_from(change.items, page_of({"limit": "100", "order": "asc"}))

    async def _get(self, name: str, tenant: str) -> dict[str, Any]:
        found = await self._api.service.stored.ask(GetConversation(tenant, name))
        if found is None:
            raise conversation_not_found(name)
        fields: dict[str, Any] = msgspec.json.decode(found)
        return fields

    async def _items(self, name: str, tenant: str) -> list[StoredItem]:
        found: list[StoredItem] | None = await self._api.service.stored.ask(GetItems(tenant, name))
        if found is None:
            raise conversation_not_found(name)
        return found


def _read(raw: Body, name: str) -> ConversationChange:
    body, _ = _decoder.decode(raw or b"{}")
    return read_conversation(body, name)
