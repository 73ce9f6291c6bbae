"""The SQLite store of responses and conversations, in a file or in memory.

Everything here blocks and belongs to one thread. Several processes may have the same file open. Each row belongs to a
tenant, and no statement finds another tenant's. It holds prompts and answers, so only its owner may read the file, and
what is deleted is overwritten.
"""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from actors.kernel.clock import WallClock
from actors.kernel.content_file import free_pages, make_private, prepare_content
from actors.kernel.transaction import transaction

SCHEMA = 1
_APPLICATION = 0x70656E73
"""SQLite's mark of whose file it is."""
_PATIENCE_MS = 2000
_ROW_BYTES = 256
"""Estimated size of a row beside its content."""
_TENANT_SHARE = 4
"""A tenant may use one in so many bytes."""
_LONGEST_CHAIN = 1000
"""Responses that continue each other, at most."""
_MOST_EXPIRED = 256
"""Rows that one statement deletes because their time is over."""
_COUNT = "INSERT INTO sizes VALUES ({0}.tenant, {1}) ON CONFLICT (tenant) DO UPDATE SET bytes = bytes + excluded.bytes;"
_COUNTED = "\n".join(
    [
        f"CREATE TRIGGER IF NOT EXISTS {table}_{name} AFTER {event} ON {table} BEGIN {_COUNT.format(row, size)} END;"
        for table in ("responses", "conversations")
        for name, event, row, size in (
            ("come", "INSERT", "new", "new.size"),
            ("go", "DELETE", "old", "-old.size"),
            ("grow", "UPDATE OF size", "new", "new.size - old.size"),
        )
    ]
)
"""Keep the sum of each tenant's rows."""
_TABLES = f"""
CREATE TABLE IF NOT EXISTS sizes (tenant TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    used REAL NOT NULL,
    size INTEGER NOT NULL,
    previous TEXT NOT NULL,
    body BLOB NOT NULL,
    items BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS responses_by_use ON responses (used);
CREATE INDEX IF NOT EXISTS responses_by_tenant ON responses (tenant, used);
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    used REAL NOT NULL,
    size INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS conversations_by_use ON conversations (used);
CREATE INDEX IF NOT EXISTS conversations_by_tenant ON conversations (tenant, used);
CREATE TABLE IF NOT EXISTS items (
    conversation TEXT NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL, item BLOB NOT NULL,
    PRIMARY KEY (conversation, position)
) WITHOUT ROWID;
{_COUNTED}
PRAGMA user_version = {SCHEMA};
PRAGMA application_id = {_APPLICATION};
"""
_CHAIN = """
WITH RECURSIVE chain(id, previous, depth) AS (
    SELECT id, previous, 0 FROM responses WHERE id = ? AND tenant = ?
    UNION ALL
    SELECT r.id, r.previous, depth + 1 FROM responses AS r JOIN chain ON r.id = chain.previous
    WHERE r.tenant = ? AND depth < ?
)
"""
_READ_CHAIN = f"""
{_CHAIN} SELECT r.id, r.body, r.items, r.previous FROM responses AS r JOIN chain USING (id) ORDER BY depth DESC
"""  # noqa: S608  (constants of this file)
_USE_CHAIN = f"{_CHAIN} UPDATE responses SET used = ? WHERE id IN (SELECT id FROM chain)"  # noqa: S608


class StoredResponse(msgspec.Struct, frozen=True):
    """A response, with what it was made from; JSON."""

    id: str
    body: bytes
    items: bytes
    """A list: the items of its input."""
    previous: str = ""
    """The id of the response that it continues."""


class StoredItem(msgspec.Struct, frozen=True):
    """An item of a conversation; JSON."""

    id: str
    item: bytes


class PutResponse(msgspec.Struct, frozen=True, tag=True):
    """Store it, in the place of an earlier one with its id. Gives None."""

    tenant: str
    response: StoredResponse
    conversation: str = ""
    """This one grows by `added`, if it is there."""
    added: tuple[StoredItem, ...] = ()
    only_new: bool = False
    """Nothing is done if there is one with its id."""


class GetResponse(msgspec.Struct, frozen=True, tag=True):
    """Gives StoredResponse or None."""

    tenant: str
    response_id: str


class GetChain(msgspec.Struct, frozen=True, tag=True):
    """The response and those that it continues, the oldest first, which all count as used now.

    Gives a list of StoredResponse; the first one's `previous` is not empty if that response is gone.
    """

    tenant: str
    response_id: str


class DeleteResponse(msgspec.Struct, frozen=True, tag=True):
    """Gives whether it was there."""

    tenant: str
    response_id: str


class PutConversation(msgspec.Struct, frozen=True, tag=True):
    """Store a new one. Gives None."""

    tenant: str
    conversation_id: str
    body: bytes
    """JSON."""


class ChangeConversation(msgspec.Struct, frozen=True, tag=True):
    """Another `body` of one that is there. Gives whether it is."""

    tenant: str
    conversation_id: str
    body: bytes
    """JSON."""


class GetConversation(msgspec.Struct, frozen=True, tag=True):
    """Its `body`, or None."""

    tenant: str
    conversation_id: str


class GetItems(msgspec.Struct, frozen=True, tag=True):
    """The items of a conversation, which counts as used now. Gives a list of StoredItem, or None without it."""

    tenant: str
    conversation_id: str


class AddItems(msgspec.Struct, frozen=True, tag=True):
    """Gives whether the conversation is there."""

    tenant: str
    conversation_id: str
    items: tuple[StoredItem, ...]


class DeleteItem(msgspec.Struct, frozen=True, tag=True):
    """Gives whether the conversation is there; an item that it has not is no error."""

    tenant: str
    conversation_id: str
    item_id: str


class DeleteConversation(msgspec.Struct, frozen=True, tag=True):
    """Gives whether it was there."""

    tenant: str
    conversation_id: str


ResponseQuery = (
    PutResponse
    | GetResponse
    | GetChain
    | DeleteResponse
    | PutConversation
    | ChangeConversation
    | GetConversation
    | GetItems
    | AddItems
    | DeleteItem
    | DeleteConversation
)


class ResponseStore:
    """An open store."""

    def __init__(self, path: Path | None, *, most_bytes: int, keep_s: float, wall: WallClock) -> None:
        """`path`: None for a store in memory. `most_bytes`: of all rows; `keep_s`: after their last use.

        Raises sqlite3.Error and OSError.
        """
        self._most_bytes = most_bytes
        self._keep_s = keep_s
        self._wall = wall
        self.in_memory = path is None
        self._deleted = False
        """Pages may be free."""
        if path is not None:
            make_private(path)
        self._connection = sqlite3.connect(str(path or ":memory:"), isolation_level=None, check_same_thread=False)
        try:
            self._prepare(path)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, path: Path | None) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        prepare_content(
            self._connection, path, tables=_TABLES, owner=_APPLICATION, schema=SCHEMA, setting="[server] responses_file"
        )

    def carry_out(self, query: ResponseQuery) -> Any:
        """What the query gives. Raises sqlite3.Error; nothing is changed then."""
        now = self._wall()
        with transaction(self._connection):
            for table in ("responses", "conversations"):
                self._drop(table, "used < ?", (now - self._keep_s,), _MOST_EXPIRED)
            value = self._carry_out(query, now)
        if self._deleted:
            self._deleted = False
            free_pages(self._connection)
        return value

    def _carry_out(self, query: ResponseQuery, now: float) -> Any:
        execute = self._connection.execute
        match query:
            case PutResponse(tenant, response):
                if query.only_new and self._responses("WHERE id = ? AND tenant = ?", (response.id, tenant)):
                    return None
                size = _ROW_BYTES + len(response.body) + len(response.items)
                execute("DELETE FROM responses WHERE id = ? AND tenant = ?", (response.id, tenant))
                execute(
                    "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (response.id, tenant, now, size, response.previous, response.body, response.items),
                )
                if query.conversation:
                    self._add_items(tenant, query.conversation, query.added, now)
                self._bound(tenant)
                return None
            case GetResponse(tenant, response_id):
                rows = self._responses("WHERE id = ? AND tenant = ?", (response_id, tenant))
                return rows[0] if rows else None
            case GetChain(tenant, response_id):
                of_chain = (response_id, tenant, tenant, _LONGEST_CHAIN)
                chain = execute(_READ_CHAIN, of_chain).fetchall()
                execute(_USE_CHAIN, (*of_chain, now))
                return [StoredResponse(*row) for row in chain]
            case DeleteResponse(tenant, response_id):
                return self._drop("responses", "id = ? AND tenant = ?", (response_id, tenant), 1) > 0
            case PutConversation(tenant, conversation_id, body):
                execute(
                    "INSERT INTO conversations VALUES (?, ?, ?, ?, ?)",
                    (conversation_id, tenant, now, _ROW_BYTES + len(body), body),
                )
                self._bound(tenant)
                return None
            case ChangeConversation(tenant, conversation_id, body):
                if not self._use(tenant, conversation_id, now):
                    return False
                execute("UPDATE conversations SET body = ? WHERE id = ?", (body, conversation_id))
                self._measure(conversation_id)
                self._bound(tenant)
                return True
            case GetConversation(tenant, conversation_id):
                found = execute(
                    "SELECT body FROM conversations WHERE id = ? AND tenant = ?", (conversation_id, tenant)
                ).fetchone()
                return None if found is None else found[0]
            case GetItems(tenant, conversation_id):
                if not self._use(tenant, conversation_id, now):
                    return None
                items = execute(
                    "SELECT id, item FROM items WHERE conversation = ? ORDER BY position", (conversation_id,)
                ).fetchall()
                return [StoredItem(*row) for row in items]
            case AddItems(tenant, conversation_id, added):
                there = self._add_items(tenant, conversation_id, added, now)
                self._bound(tenant)
                return there
            case DeleteItem(tenant, conversation_id, item_id):
                if not self._use(tenant, conversation_id, now):
                    return False
                execute("DELETE FROM items WHERE conversation = ? AND id = ?", (conversation_id, item_id))
                self._measure(conversation_id)
                return True
            case DeleteConversation(tenant, conversation_id):
                return self._drop("conversations", "id = ? AND tenant = ?", (conversation_id, tenant), 1) > 0

    def _responses(self, where: str, values: tuple[Any, ...]) -> list[StoredResponse]:
        rows = self._connection.execute(f"SELECT id, body, items, previous FROM responses {where}", values)  # noqa: S608
        return [StoredResponse(*row) for row in rows.fetchall()]

    def _use(self, tenant: str, conversation_id: str, now: float) -> bool:
        """Whether the conversation is there; it counts as used now."""
        used = self._connection.execute(
            "UPDATE conversations SET used = ? WHERE id = ? AND tenant = ?", (now, conversation_id, tenant)
        )
        return used.rowcount > 0

    def _add_items(self, tenant: str, conversation_id: str, items: tuple[StoredItem, ...], now: float) -> bool:
        if not self._use(tenant, conversation_id, now):
            return False
        (last,) = self._connection.execute(
            "SELECT ifnull(max(position), 0) FROM items WHERE conversation = ?", (conversation_id,)
        ).fetchone()
        self._connection.executemany(
            "INSERT INTO items VALUES (?, ?, ?, ?)",
            [(conversation_id, number, each.id, each.item) for number, each in enumerate(items, last + 1)],
        )
        self._measure(conversation_id)
        return True

    def _measure(self, conversation_id: str) -> None:
        self._connection.execute(
            "UPDATE conversations SET size = ? + length(body) + (SELECT ifnull(sum(length(item) + ?), 0) FROM items"
            " WHERE conversation = conversations.id) WHERE id = ?",
            (_ROW_BYTES, _ROW_BYTES, conversation_id),
        )

    def _bound(self, tenant: str) -> None:
        """Drop what was used the longest ago: of the tenant beyond its share, and of all beyond the whole."""
        share = self._most_bytes // _TENANT_SHARE
        while self._size("WHERE tenant = ?", (tenant,)) > share:
            self._drop_oldest("tenant = ?", (tenant,))
        while self._size("", ()) > self._most_bytes:
            self._drop_oldest("true", ())

    def _size(self, where: str, values: tuple[Any, ...]) -> int:
        return int(self._connection.execute(f"SELECT total(bytes) FROM sizes {where}", values).fetchone()[0])  # noqa: S608

    def _drop_oldest(self, where: str, values: tuple[Any, ...]) -> None:
        oldest = [
            (row[0], table)
            for table in ("responses", "conversations")
            if (row := self._connection.execute(f"SELECT min(used) FROM {table} WHERE {where}", values).fetchone())[0]  # noqa: S608
            is not None
        ]
        used, table = min(oldest)
        self._drop(table, f"{where} AND used = ?", (*values, used), 1)

    def _drop(self, table: str, where: str, values: tuple[Any, ...], most: int) -> int:
        """Delete rows; returns how many."""
        execute = self._connection.execute
        ids = [row[0] for row in execute(f"SELECT id FROM {table} WHERE {where} LIMIT {most}", values)]  # noqa: S608
        self._deleted = self._deleted or bool(ids)
        for each in ids:
            execute(f"DELETE FROM {table} WHERE id = ?", (each,))  # noqa: S608
            if table == "conversations":
                execute("DELETE FROM items WHERE conversation = ?", (each,))
        return len(ids)

    def close(self) -> None:
        self._connection.close()
