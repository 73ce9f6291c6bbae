"""The SQLite file of kept answers: what was sent of each, written before its readers get it.

It mirrors the answers in memory, so that memory's bounds are the file's, too. Everything here blocks and belongs to one
thread; one process at a time has the file open. It holds prompts and answers, so only its owner may read it, and what
is deleted is overwritten.
"""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from actors.api.request import InferenceRequest
from actors.api.response import DecisionInfo, ResponseEvent
from actors.kernel.content_file import free_pages, make_private, prepare_content
from actors.kernel.transaction import transaction
from actors.protocol.ledger import Delivered

SCHEMA = 1
_APPLICATION = 0x70656E6B
"""SQLite's mark of whose file it is."""
_PATIENCE_MS = 1000
_PRIVATE_HEADERS = frozenset({b"cookie", b"idempotency-key", b"proxy-authorization", b"x-api-key", b"api-key"})
_TABLES = f"""
CREATE TABLE answers (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    created INTEGER NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    background INTEGER NOT NULL,
    request BLOB NOT NULL,
    decided BLOB,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE events (
    id TEXT NOT NULL, position INTEGER NOT NULL, events BLOB NOT NULL, PRIMARY KEY (id, position)
) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA};
PRAGMA application_id = {_APPLICATION};
"""
_FORGET = "UPDATE answers SET prompt_tokens = 0, completion_tokens = 0, cost = 0 WHERE id = ?"


def _plain(value: object) -> object:
    """The fields that a client has written are read-only views."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_requests = msgspec.msgpack.Decoder(InferenceRequest)
_decisions = msgspec.msgpack.Decoder(DecisionInfo)
_events = msgspec.msgpack.Decoder(tuple[ResponseEvent, ...])


class PutAnswer(msgspec.Struct, frozen=True):
    """An answer begins."""

    answer_id: str
    tenant: str
    endpoint: str
    created: int
    key: str
    digest: bytes
    background: bool
    request: bytes


class AppendEvents(msgspec.Struct, frozen=True):
    """Events of an answer, from this position on, and all that its tenant owes if the process ends now."""

    answer_id: str
    position: int
    events: bytes
    decided: bytes
    delivered: Delivered


class ForgetDelivered(msgspec.Struct, frozen=True):
    """Another process goes on with the answer: what was delivered before is in the ledger by now."""

    answer_id: str


class DeleteAnswer(msgspec.Struct, frozen=True):
    """An answer is dropped."""

    answer_id: str


KeptWrite = PutAnswer | AppendEvents | ForgetDelivered | DeleteAnswer


class KeptBatch(msgspec.Struct, frozen=True):
    """The content of one commit."""

    writes: tuple[KeptWrite, ...]


class KeptStoreClosed(msgspec.Struct, frozen=True):
    """As a command: close the file. As a post: it is closed."""


class StoredAnswer(msgspec.Struct, frozen=True):
    """An answer as an ended process has left it."""

    put: PutAnswer
    request: InferenceRequest
    decided: DecisionInfo | None
    events: tuple[ResponseEvent, ...]


class KeptOpened(msgspec.Struct, frozen=True):
    """The file is open."""

    answers: tuple[StoredAnswer, ...]
    """Oldest first."""
    unreadable: int
    """Answers that another version has written, or that are damaged; they are deleted."""


class KeptCommitted(msgspec.Struct, frozen=True):
    """One batch is in the file."""


class KeptStoreFailed(msgspec.Struct, frozen=True):
    """Reading or writing failed; the current batch is not committed."""

    message: str


KeptStoreEvent = KeptOpened | KeptCommitted | KeptStoreClosed | KeptStoreFailed


def put_answer(  # noqa: PLR0917  (a row)
    request: InferenceRequest, tenant: str, endpoint: str, created: int, key: str, digest: bytes, *, background: bool
) -> PutAnswer:
    """Its row, without the API key and headers that may hold secrets. Raises what an encoder does."""
    credentials = request.credentials
    headers = tuple([(name, value) for name, value in credentials.headers if name not in _PRIVATE_HEADERS])
    stored = msgspec.structs.replace(
        request, begun=None, credentials=msgspec.structs.replace(credentials, api_key=None, headers=headers)
    )
    encoded = _encoder.encode(stored)
    return PutAnswer(request.request_id, tenant, endpoint, created, key, digest, background, encoded)


def append_events(
    answer_id: str, position: int, events: list[ResponseEvent], decided: DecisionInfo, delivered: Delivered
) -> AppendEvents:
    """Raises what an encoder does."""
    return AppendEvents(answer_id, position, _encoder.encode(events), _encoder.encode(decided), delivered)


class KeptStore:
    """An open file."""

    def __init__(self, path: Path | str, *, fresh: bool = False) -> None:
        """`fresh`: a new one in its place. Raises sqlite3.Error and OSError."""
        if str(path) != ":memory:":
            # Not by statements: on a full disk these need room, and a thread that hangs still has the old one.
            for name in (path, f"{path}-wal", f"{path}-shm") if fresh else ():
                Path(name).unlink(missing_ok=True)
            make_private(path)
        self._connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
        self.unreadable = 0
        try:
            self._prepare(path)
            self.answers = self._read()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, path: Path | str) -> None:
        execute = self._connection.execute
        execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        # Two processes would go on with the same answer.
        execute("PRAGMA locking_mode = EXCLUSIVE")
        prepare_content(
            self._connection, path, tables=_TABLES, owner=_APPLICATION, schema=SCHEMA, setting="[server] kept_file"
        )
        execute("BEGIN EXCLUSIVE")
        execute("COMMIT")

    def _read(self) -> tuple[StoredAnswer, ...]:
        execute, found = self._connection.execute, []
        rows = execute("SELECT id, tenant, endpoint, created, key, digest, background, request, decided FROM answers")
        for answer_id, tenant, endpoint, created, key, digest, background, request, decided in rows.fetchall():
            put = PutAnswer(answer_id, tenant, endpoint, created, key, digest, bool(background), request)
            try:
                answer = StoredAnswer(
                    put,
                    _requests.decode(request),
                    None if decided is None else _decisions.decode(decided),
                    self._events_of(put.answer_id, decided=decided is not None),
                )
            except (msgspec.DecodeError, ValueError):
                self.unreadable += 1
                self.commit(KeptBatch((DeleteAnswer(put.answer_id),)))
                continue
            found.append(answer)
        return tuple(sorted(found, key=lambda each: each.put.created))

    def _events_of(self, answer_id: str, *, decided: bool) -> tuple[ResponseEvent, ...]:
        """Raises ValueError: something is missing."""
        events: tuple[ResponseEvent, ...] = ()
        rows = self._connection.execute("SELECT position, events FROM events WHERE id = ? ORDER BY 1", (answer_id,))
        for position, encoded in rows:
            if position != len(events):
                raise ValueError("events are missing")
            events += _events.decode(encoded)
        if events and not decided:
            raise ValueError("the decision is missing")
        return events

    def commit(self, batch: KeptBatch) -> None:
        """Commit the whole batch or nothing. Raises sqlite3.Error."""
        with transaction(self._connection):
            for write in batch.writes:
                self._write(write)
        if any(isinstance(write, DeleteAnswer) for write in batch.writes):
            free_pages(self._connection)

    def _write(self, write: KeptWrite) -> None:
        execute = self._connection.execute
        match write:
            case PutAnswer():
                execute("DELETE FROM events WHERE id = ?", (write.answer_id,))
                execute(
                    "INSERT OR REPLACE INTO answers (id, tenant, endpoint, created, key, digest, background, request)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    msgspec.structs.astuple(write),
                )
            case AppendEvents(answer_id, position, events, decided, delivered):
                execute("INSERT INTO events VALUES (?, ?, ?)", (answer_id, position, events))
                execute(
                    "UPDATE answers SET decided = ifnull(decided, ?), prompt_tokens = ?, completion_tokens = ?,"
                    " cost = ? WHERE id = ?",
                    (decided, *msgspec.structs.astuple(delivered), answer_id),
                )
            case ForgetDelivered(answer_id):
                execute(
                    "UPDATE answers SET prompt_tokens = 0, completion_tokens = 0, cost = 0 WHERE id = ?", (answer_id,)
                )
            case DeleteAnswer(answer_id):
                execute("DELETE FROM events WHERE id = ?", (answer_id,))
                execute("DELETE FROM answers WHERE id = ?", (answer_id,))

    def close(self) -> None:
        """The file is whole without its WAL."""
        self._connection.close()


def delivered_before(path: Path | str) -> Mapping[str, Delivered]:
    """What an ended process has delivered of each kept answer, by request id; empty if the file cannot be read."""
    if not Path(path).is_file():
        return {}
    try:
        connection = sqlite3.connect(str(path), isolation_level=None)
    except sqlite3.Error:
        return {}
    try:
        connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        rows = connection.execute("SELECT id, prompt_tokens, completion_tokens, cost FROM answers").fetchall()
    except sqlite3.Error:
        return {}
    finally:
        connection.close()
    return {answer_id: Delivered(*rest) for answer_id, *rest in rows}


def keep_on_disk(
    open_store: Callable[[], KeptStore],
    receive: Callable[[], KeptBatch | KeptStoreClosed],
    post: Callable[[KeptStoreEvent], None],
) -> None:
    """Write batches until `KeptStoreClosed`, or until writing fails."""
    try:
        store = open_store()
    except (sqlite3.Error, OSError) as error:
        post(KeptStoreFailed(f"it cannot be opened: {error}"))
        return
    post(KeptOpened(store.answers, store.unreadable))
    try:
        while isinstance(command := receive(), KeptBatch):
            store.commit(command)
            post(KeptCommitted())
    except sqlite3.Error as error:
        post(KeptStoreFailed(f"it cannot be written: {error}"))
    finally:
        store.close()
    post(KeptStoreClosed())
