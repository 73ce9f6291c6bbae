"""`/v1/files`: the files of batches, which are uploaded and read in parts."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import PurePosixPath
from secrets import token_hex

import structlog

from actors.api.errors import Conflict, NotFound, Refusal, Unavailable
from actors.batches.file_rows import PIECE_BYTES
from actors.batches.records import FileRecord
from actors.batches.store_queries import AddPiece, BeginFile, DropFile, EndFile, GetFile, ListFiles, ReadFile
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.responses.responses import parameters_of
from gateway.errors import BadField, ClientGone, HttpError
from gateway.http.connection import Connection
from gateway.http.request import Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.batches.file_object import file_object, kept_for
from gateway.openai.batches.upload import PURPOSE, UploadReader
from gateway.openai.json_text import encode
from gateway.openai.listing import limit_of, listed

FILES = b"/v1/files"
_CONTENT = b"content"
_METHODS = {b"": b"GET, DELETE", _CONTENT: b"GET"}
_FORM_BYTES = 64 * 1024
"""What a form has beside its file, at most."""
MOST_FILES_LISTED = 10_000
ORDERS = ("asc", "desc")
_NAME_CHARACTERS = 256
_BINARY = b"content-type: application/octet-stream\r\n"
log = structlog.get_logger()


def methods_of(path: bytes) -> bytes:
    """The methods of an address below `FILES`; b"": there is none."""
    file_id, _, rest = path.removeprefix(FILES + b"/").removesuffix(b"/").partition(b"/")
    return _METHODS.get(rest, b"") if file_id else b""


class FileHandler:
    """Handles all addresses of files."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api
        self._settings = api.service.batches.settings
        self._store = api.service.batches.store
        self.most_bytes = self._settings.max_file + _FORM_BYTES
        """Of the body of an upload."""

    async def __call__(self, connection: Connection, request: Request) -> None:
        api, headers = self._api, self._api.headers(request)
        path = request.path.removesuffix(b"/")
        name, _, what = path.removeprefix(FILES).removeprefix(b"/").partition(b"/")
        file_id = name.decode("latin1")
        shown = (FILES if not name else FILES + b"/{id}").decode()
        log_refusal = partial(api.refusal_log, request.id, shown, request.arrived_at, request.key)
        try:
            if request.method == b"POST":
                body = encode(file_object(await self._logged_upload(connection, request, log_refusal)))
            else:
                with log_refusal():
                    tenant = api.service.clients.tenant_of(request.key)
                    connection.watch()
                    if what == _CONTENT:
                        await self._send(connection, headers.headers(), tenant, file_id)
                        return
                    body = await self._carry_out(request, tenant, file_id)
            await connection.respond(200, headers.headers() + JSON_TYPE, body)
        except Refusal as refusal:
            log.debug("request_refused", request_id=request.id, code=refusal.body.code, status=refusal.body.status)
            await connection.respond_error(refusal.body, headers.headers())

    async def _carry_out(self, request: Request, tenant: str, file_id: str) -> bytes:
        """Raises Refusal."""
        if not file_id:
            return await self._list(tenant, parameters_of(request))
        if request.method == b"DELETE":
            ended = await self._store.ask(DropFile(tenant, file_id))
            if ended == "unknown":
                raise _not_found(file_id)
            if ended == "in_use":
                raise Conflict("file_in_use", "The file belongs to a batch that has not ended. Cancel the batch first.")
            return encode({"id": file_id, "object": "file", "deleted": True})
        return encode(file_object(await self._get(tenant, file_id)))

    async def _get(self, tenant: str, file_id: str) -> FileRecord:
        """Raises NotFound."""
        found = await self._store.ask(GetFile(tenant, file_id))
        if not isinstance(found, FileRecord):
            raise _not_found(file_id)
        return found

    async def _list(self, tenant: str, parameters: Mapping[str, str]) -> bytes:
        limit = limit_of(parameters, MOST_FILES_LISTED, MOST_FILES_LISTED)
        order = parameters.get("order", "desc")
        if order not in ORDERS:
            raise BadField("order", "'order' must be 'asc' or 'desc'.")
        after = parameters.get("after", "")
        query = ListFiles(tenant, after, limit, order == "desc", parameters.get("purpose", ""))
        found = await self._store.ask(query)
        if found is None:
            raise _not_found(after)
        return encode(listed([file_object(record) for record in found], limit))

    async def _send(self, connection: Connection, lines: bytes, tenant: str, file_id: str) -> None:
        """Send the content. Raises Refusal before its first byte, and ClientGone if it cannot be read to its end."""
        record = await self._get(tenant, file_id)
        await connection.respond_sized(lines + _BINARY, record.size)
        left, position = record.size, 0
        try:
            while left and (part := await self._store.ask(ReadFile(tenant, file_id, position))) and part[0]:
                data, position = part
                left -= len(data)
                await connection.send_part(data)
        except Unavailable:
            log.warning("file_not_read", file=file_id)
        if left:
            # The client sees that it is incomplete.
            raise ClientGone

    # --- uploads --------------------------------------------------------------------------------------------------

    async def _logged_upload(
        self, connection: Connection, request: Request, log_refusal: Callable[[], AbstractContextManager[None]]
    ) -> FileRecord:
        """Raises Refusal. An upload that is too slow is logged where its connection is ended."""
        try:
            return await self._upload(connection, request, self._api.service.clients.tenant_of(request.key))
        except (Refusal, ClientGone):
            with log_refusal():
                raise

    async def _upload(self, connection: Connection, request: Request, tenant: str) -> FileRecord:
        """Raises Refusal; nothing of the file stays then."""
        reader = UploadReader(request.header(b"content-type"))
        file_id = f"file-{token_hex(12)}"
        try:
            await self._receive(connection, reader, tenant, file_id)
            _check_purpose(reader.fields)
            keep_s = _keep_s(reader.fields)
            await self._store.ask(EndFile(tenant, file_id, keep_s))
            return await self._get(tenant, file_id)
        except BaseException:
            # Where that fails, too, it is deleted when it has not been whole for long enough.
            with suppress(Unavailable):
                self._store.tell(DropFile(tenant, file_id))
            raise

    async def _receive(self, connection: Connection, reader: UploadReader, tenant: str, file_id: str) -> None:
        size, begun, held = 0, False, bytearray()
        ended = False
        while not ended:
            data = await connection.next_piece()
            ended = not data
            held += reader.end() if ended else reader.feed(data)
            if "purpose" in reader.fields:
                # Before a long file is read in vain.
                _check_purpose(reader.fields)
            if reader.filename is not None and not begun:
                begun = True
                await self._store.ask(BeginFile(tenant, file_id, _shown(reader.filename)))
            while len(held) >= PIECE_BYTES or (ended and held):
                part = bytes(held[:PIECE_BYTES])
                del held[:PIECE_BYTES]
                size += len(part)
                if size > self._settings.max_file:
                    raise HttpError(
                        413, "file_too_large", f"A file may have {self._settings.max_file} bytes. Split it."
                    )
                full = await self._store.ask(AddPiece(tenant, file_id, part))
                if full is not None:
                    raise _storage_full(full)
        connection.watch()


def _check_purpose(fields: Mapping[str, str]) -> None:
    purpose = fields.get("purpose")
    if purpose is None:
        raise BadField("purpose", f"The field 'purpose' is missing: send '{PURPOSE}'.", "missing_field")
    if purpose != PURPOSE:
        message = f"Files with the purpose '{purpose[:64]}' are not served; 'purpose' must be '{PURPOSE}'."
        raise BadField("purpose", message)


def _keep_s(fields: Mapping[str, str]) -> float | None:
    seconds = fields.get("expires_after[seconds]")
    if seconds is not None and (not seconds.isdecimal() or len(seconds) > 9):
        raise BadField("expires_after.seconds", "'expires_after.seconds' must be a number.")
    return kept_for(fields.get("expires_after[anchor]"), None if seconds is None else int(seconds), "expires_after")


def _shown(filename: str) -> str:
    """Without folders and control characters."""
    name = PurePosixPath(filename.replace("\\", "/")).name[:_NAME_CHARACTERS]
    return "".join([each if each.isprintable() else "?" for each in name]) or "file"


def _storage_full(whose: str) -> HttpError:
    if whose == "tenant":
        return HttpError(
            429,
            "file_storage_full",
            "The storage for files of this tenant is full. Delete files that are not needed any more.",
            kind="rate_limit_error",
        )
    return HttpError(
        507, "file_storage_full", "The server's storage for files is full. Ask its operator.", kind="server_error"
    )


def _not_found(file_id: str) -> NotFound:
    """For another tenant's file, too."""
    return NotFound("file_not_found", f"There is no file with the id '{file_id[:80]}'.")
