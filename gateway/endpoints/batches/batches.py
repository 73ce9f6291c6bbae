"""`/v1/batches`: create, list, look at and cancel batches."""

from secrets import token_hex

import structlog

from actors.api.errors import NotFound, Refusal
from actors.batches.batches import batch_not_found
from actors.batches.records import BatchRecord
from actors.batches.store_queries import GetBatch, ListBatches
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.batches.batch_formats import GatewayFormats
from gateway.endpoints.responses.responses import parameters_of
from gateway.http.connection import Connection
from gateway.http.request import Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.batches.batch_object import ENDPOINTS, WINDOW_S, batch_object, read_batch
from gateway.openai.json_text import encode
from gateway.openai.listing import limit_of, listed

BATCHES = b"/v1/batches"
_CANCEL = b"cancel"
_METHODS = {b"": b"GET", _CANCEL: b"POST"}
DEFAULT_LISTED, MOST_LISTED = 20, 100
log = structlog.get_logger()


def methods_of(path: bytes) -> bytes:
    """The methods of an address below `BATCHES`; b"": there is none."""
    batch_id, _, rest = path.removeprefix(BATCHES + b"/").removesuffix(b"/").partition(b"/")
    return _METHODS.get(rest, b"") if batch_id else b""


class BatchHandler:
    """Handles all addresses of batches."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api
        self._batches = api.service.batches
        self._batches.serve(GatewayFormats(api))

    async def __call__(self, connection: Connection, request: Request) -> None:
        api, headers = self._api, self._api.headers(request)
        path = request.path.removesuffix(b"/")
        name, _, what = path.removeprefix(BATCHES).removeprefix(b"/").partition(b"/")
        shown = BATCHES if not name else BATCHES + b"/{id}"
        try:
            with api.refusal_log(request.id, shown.decode(), request.arrived_at, request.key):
                raw = request.body
                connection.drop_body(request)
                connection.watch()
                if not name and request.method == b"POST":
                    body = encode(batch_object(await self._create(request, bytes(raw))))
                elif not name:
                    body = await self._list(request)
                else:
                    tenant, batch_id = api.service.clients.tenant_of(request.key), name.decode("latin1")
                    if what == _CANCEL:
                        record: BatchRecord | None = await self._batches.cancel(tenant, batch_id)
                    else:
                        record = await self._batches.store.ask(GetBatch(tenant, batch_id))
                    if record is None:
                        raise batch_not_found(batch_id)
                    body = encode(batch_object(record))
            await connection.respond(200, headers.headers() + JSON_TYPE, body)
        except Refusal as refusal:
            log.debug("request_refused", request_id=request.id, code=refusal.body.code, status=refusal.body.status)
            await connection.respond_error(refusal.body, headers.headers())

    async def _create(self, request: Request, raw: bytes) -> BatchRecord:
        """Raises Refusal."""
        asked = read_batch(raw)
        grant = self._api.service.clients.grant_for_batch(request.key, ENDPOINTS[asked.endpoint])
        at = self._api.service.wall()
        record = BatchRecord(
            id=f"batch_{token_hex(12)}",
            tenant=grant.tenant,
            key=grant.id,
            models=grant.models,
            endpoint=asked.endpoint,
            input_file=asked.input_file_id,
            metadata=asked.metadata,
            output_keep_s=asked.output_keep_s,
            created=at,
            expires=at + WINDOW_S,
        )
        await self._batches.create(record)
        return record

    async def _list(self, request: Request) -> bytes:
        """Raises Refusal."""
        tenant, parameters = self._api.service.clients.tenant_of(request.key), parameters_of(request)
        limit, after = limit_of(parameters, DEFAULT_LISTED, MOST_LISTED), parameters.get("after", "")
        found = await self._batches.store.ask(ListBatches(tenant, after, limit))
        if found is None:
            raise NotFound("batch_not_found", f"'after': there is no batch with the id '{after[:80]}'.")
        return encode(listed([batch_object(record) for record in found], limit))
