"""Rows of files: an upload in pieces, or the results of a batch, which are read from its requests.

Everything here blocks; each method is part of a transaction of its caller.
"""

import sqlite3
from typing import Any, Literal

import msgspec

from actors.batches.records import FileRecord
from actors.batches.store_queries import AddPiece, BeginFile, DropFile, Ended, EndFile, GetFile, ListFiles, ReadFile

PIECE_BYTES = 256 * 1024
"""Of a file that is read, about; uploads come in pieces of this size."""
_ROW_BYTES = 512
"""Counted for a file beside its content."""
_STALE_S = 24 * 3600.0
"""An upload that is not whole after this time has broken off."""
_MOST_EXPIRED = 64
TABLES = """
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    purpose TEXT NOT NULL,
    size INTEGER NOT NULL,
    held INTEGER NOT NULL,
    whole INTEGER NOT NULL,
    created REAL NOT NULL,
    expires REAL NOT NULL,
    batch TEXT NOT NULL,
    ok INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS files_by_tenant ON files (tenant, number);
CREATE INDEX IF NOT EXISTS files_by_end ON files (expires);
CREATE TABLE IF NOT EXISTS pieces (file TEXT NOT NULL, at INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS pieces_by_file ON pieces (file, at);
"""
_FIELDS = "id, name, purpose, size, created, expires"


class FileLimits(msgspec.Struct, frozen=True):
    """How much is stored, and for how long."""

    storage: int
    """Bytes of all tenants together."""
    storage_per_tenant: int
    keep_s: float


class FileRows:
    """The files of one store."""

    def __init__(self, connection: sqlite3.Connection, limits: FileLimits) -> None:
        self._execute = connection.execute
        self._limits = limits
        self.deleted = False
        """Pages may be free."""

    def begin(self, query: BeginFile, now: float) -> None:
        self._execute(
            "INSERT INTO files (id, tenant, name, purpose, size, held, whole, created, expires, batch, ok)"
            " VALUES (?, ?, ?, 'batch', 0, ?, 0, ?, ?, '', 0)",
            (query.file_id, query.tenant, query.name, _ROW_BYTES, now, now + _STALE_S),
        )

    def add(self, query: AddPiece) -> Literal["tenant", "all"] | None:
        size = len(query.data)
        full = self.full(query.tenant, size)
        if full is not None:
            return full
        found = self._execute(
            "SELECT size FROM files WHERE id = ? AND tenant = ? AND whole = 0", (query.file_id, query.tenant)
        ).fetchone()
        if found is not None:
            self._execute("INSERT INTO pieces VALUES (?, ?, ?)", (query.file_id, found[0], query.data))
            self._execute("UPDATE files SET size = size + ?, held = held + ? WHERE id = ?", (size, size, query.file_id))
        return None

    def full(self, tenant: str, more: int) -> Literal["tenant", "all"] | None:
        """Whose storage has no room for so many more bytes."""
        if self.held("WHERE tenant = ?", (tenant,)) + more > self._limits.storage_per_tenant:
            return "tenant"
        return "all" if self.held("", ()) + more > self._limits.storage else None

    def held(self, where: str, values: tuple[Any, ...]) -> int:
        """Bytes of files and of the requests and results of batches."""
        total = 0
        for table in ("files", "batches"):
            (size,) = self._execute(f"SELECT total(held) FROM {table} {where}", values).fetchone()  # noqa: S608
            total += int(size)
        return total

    def end(self, query: EndFile, now: float) -> FileRecord | None:
        keep_s = self._limits.keep_s if query.keep_s is None else min(query.keep_s, self._limits.keep_s)
        self._execute(
            "UPDATE files SET whole = 1, created = ?, expires = ? WHERE id = ? AND tenant = ? AND whole = 0",
            (now, now + keep_s, query.file_id, query.tenant),
        )
        return self.get(GetFile(query.tenant, query.file_id))

    def put_results(  # noqa: PLR0917  (a row)
        self, file_id: str, tenant: str, name: str, batch_id: str, ok: bool, size: int, now: float, keep_s: float | None
    ) -> None:
        """The file of a batch's results; they are counted with the batch."""
        keep_s = self._limits.keep_s if keep_s is None else min(keep_s, self._limits.keep_s)
        self._execute(
            "INSERT OR IGNORE INTO files (id, tenant, name, purpose, size, held, whole, created, expires, batch, ok)"
            " VALUES (?, ?, ?, 'batch_output', ?, ?, 1, ?, ?, ?, ?)",
            (file_id, tenant, name, size, _ROW_BYTES, now, now + keep_s, batch_id, ok),
        )

    def get(self, query: GetFile) -> FileRecord | None:
        rows = self._records("WHERE id = ? AND tenant = ? AND whole = 1", (query.file_id, query.tenant))
        return rows[0] if rows else None

    def page(self, query: ListFiles) -> list[FileRecord] | None:
        where, values = "WHERE tenant = ? AND whole = 1", [query.tenant]
        if query.purpose:
            where, values = f"{where} AND purpose = ?", [*values, query.purpose]
        order, sign = ("DESC", "<") if query.newest_first else ("ASC", ">")
        if query.after:
            number = self._execute(
                "SELECT number FROM files WHERE id = ? AND tenant = ?", (query.after, query.tenant)
            ).fetchone()
            if number is None:
                return None
            where, values = f"{where} AND number {sign} ?", [*values, number[0]]
        return self._records(f"{where} ORDER BY number {order} LIMIT ?", (*values, query.limit + 1))

    def _records(self, where: str, values: tuple[Any, ...]) -> list[FileRecord]:
        rows = self._execute(f"SELECT {_FIELDS} FROM files {where}", values).fetchall()  # noqa: S608
        names = _FIELDS.split(", ")
        return [FileRecord(**dict(zip(names, row, strict=True))) for row in rows]

    def read(self, query: ReadFile) -> tuple[bytes, int] | None:
        found = self._execute(
            "SELECT batch, ok FROM files WHERE id = ? AND tenant = ? AND whole = 1", (query.file_id, query.tenant)
        ).fetchone()
        if found is None:
            return None
        batch_id, ok = found
        if not batch_id:
            return self.part(query.file_id, query.position), query.position + PIECE_BYTES
        rows = self._execute(
            "SELECT number, result FROM lines WHERE batch = ? AND state = ? AND number > ? AND result IS NOT NULL"
            " ORDER BY number",
            (batch_id, 1 if ok else 2, query.position),
        )
        data, last = bytearray(), query.position
        for number, result in rows:
            data += result
            last = number
            if len(data) >= PIECE_BYTES:
                break
        return bytes(data), last

    def part(self, file_id: str, start: int, size: int = PIECE_BYTES) -> bytes:
        """These bytes of an upload, as far as it has them."""
        data = bytearray()
        first = self._execute(
            "SELECT ifnull(max(at), 0) FROM pieces WHERE file = ? AND at <= ?", (file_id, start)
        ).fetchone()[0]
        rows = self._execute(
            "SELECT at, data FROM pieces WHERE file = ? AND at >= ? AND at < ? ORDER BY at",
            (file_id, first, start + size),
        )
        for at, piece in rows:
            data += piece[max(start - at, 0) : start + size - at]
        return bytes(data)

    def drop(self, query: DropFile) -> Ended:
        found = self._execute(
            "SELECT 1 FROM files WHERE id = ? AND tenant = ?", (query.file_id, query.tenant)
        ).fetchone()
        if found is None:
            return "unknown"
        if self._execute("SELECT 1 FROM batches WHERE input = ? AND NOT ended", (query.file_id,)).fetchone():
            return "in_use"
        self._delete(query.file_id)
        return "deleted"

    def sweep(self, now: float) -> int:
        """Delete files whose time is over, some of them at once."""
        rows = self._execute(
            "SELECT id FROM files WHERE expires <= ? AND id NOT IN (SELECT input FROM batches WHERE NOT ended)"
            " ORDER BY expires LIMIT ?",
            (now, _MOST_EXPIRED),
        ).fetchall()
        for (file_id,) in rows:
            self._delete(file_id)
        return len(rows)

    def _delete(self, file_id: str) -> None:
        self.deleted = True
        batch_id, ok = self._execute("SELECT batch, ok FROM files WHERE id = ?", (file_id,)).fetchone()
        if batch_id:
            of_file = (batch_id, 1 if ok else 2)
            (size,) = self._execute(
                "SELECT total(length(result)) FROM lines WHERE batch = ? AND state = ?", of_file
            ).fetchone()
            self._execute("UPDATE lines SET result = NULL WHERE batch = ? AND state = ?", of_file)
            self._execute("UPDATE batches SET held = held - ? WHERE id = ?", (int(size), batch_id))
        self._execute("DELETE FROM pieces WHERE file = ?", (file_id,))
        self._execute("DELETE FROM files WHERE id = ?", (file_id,))
