"""Rows of batches and of their requests, with the results. Everything here blocks, as part of a transaction."""

import sqlite3
from typing import Any

import msgspec

from actors.batches.file_rows import FileRows
from actors.batches.records import ENDED, BatchRecord, LineResult, WaitingLine
from actors.batches.store_queries import (
    AddLines,
    FinishBatch,
    GetBatch,
    ListBatches,
    NewBatch,
    NextLines,
    PutResults,
)

_ROW_BYTES = 1024
"""Counted for a batch beside its requests."""
_LINE_BYTES = 128
"""Counted for a request beside its `custom_id` and its result."""
_MOST_EXPIRED = 16
TABLES = """
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    input TEXT NOT NULL,
    ended INTEGER NOT NULL,
    ended_at REAL,
    held INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS batches_by_tenant ON batches (tenant, number);
CREATE INDEX IF NOT EXISTS unfinished_batches ON batches (ended, number);
CREATE INDEX IF NOT EXISTS batches_by_input ON batches (input);
CREATE TABLE IF NOT EXISTS lines (
    batch TEXT NOT NULL,
    number INTEGER NOT NULL,
    custom_id TEXT NOT NULL,
    start INTEGER NOT NULL,
    size INTEGER NOT NULL,
    state INTEGER NOT NULL,
    result BLOB
);
CREATE UNIQUE INDEX IF NOT EXISTS lines_by_number ON lines (batch, number);
CREATE UNIQUE INDEX IF NOT EXISTS lines_by_custom_id ON lines (batch, custom_id);
CREATE INDEX IF NOT EXISTS waiting_lines ON lines (batch, number) WHERE state = 0;
"""
_decode = msgspec.json.Decoder(BatchRecord).decode


class BatchRows:
    """The batches of one store. `state` of a line: 0 it has no result, 1 an answer, 2 an error."""

    def __init__(self, connection: sqlite3.Connection, files: FileRows, keep_s: float) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._files = files
        self._keep_s = keep_s

    def new(self, query: NewBatch) -> str | None:
        record = query.record
        of_input = (record.input_file, record.tenant)
        if not self._execute("SELECT 1 FROM files WHERE id = ? AND tenant = ? AND whole = 1", of_input).fetchone():
            return "no_file"
        (unfinished,) = self._execute(
            "SELECT count(*) FROM batches WHERE tenant = ? AND NOT ended", (record.tenant,)
        ).fetchone()
        if unfinished >= query.most_unfinished:
            return "too_many"
        self._execute(
            "INSERT INTO batches (id, tenant, input, ended, held, completed, failed, record)"
            " VALUES (?, ?, ?, 0, ?, 0, 0, ?)",
            (record.id, record.tenant, record.input_file, _ROW_BYTES, msgspec.json.encode(record)),
        )
        return None

    def put(self, record: BatchRecord, now: float) -> None:
        ended = record.state in ENDED
        self._execute(
            "UPDATE batches SET record = ?, ended = ?, ended_at = ? WHERE id = ? AND NOT ended",
            (msgspec.json.encode(record), ended, now if ended else None, record.id),
        )

    def get(self, query: GetBatch) -> BatchRecord | None:
        rows = self._records("WHERE id = ? AND tenant = ?", (query.batch_id, query.tenant))
        return rows[0] if rows else None

    def page(self, query: ListBatches) -> list[BatchRecord] | None:
        where, values = "WHERE tenant = ?", [query.tenant]
        if query.after:
            number = self._execute(
                "SELECT number FROM batches WHERE id = ? AND tenant = ?", (query.after, query.tenant)
            ).fetchone()
            if number is None:
                return None
            where, values = f"{where} AND number < ?", [*values, number[0]]
        return self._records(f"{where} ORDER BY number DESC LIMIT ?", (*values, query.limit + 1))

    def unfinished(self) -> list[BatchRecord]:
        return self._records("WHERE NOT ended ORDER BY number", ())

    def _records(self, where: str, values: tuple[Any, ...]) -> list[BatchRecord]:
        rows = self._execute(f"SELECT record, completed, failed FROM batches {where}", values).fetchall()  # noqa: S608
        return [
            msgspec.structs.replace(_decode(record), completed=completed, failed=failed)
            for record, completed, failed in rows
        ]

    def add_lines(self, query: AddLines) -> list[int]:
        again: list[int] = []
        held = 0
        for line in query.lines:
            added = self._execute(
                "INSERT OR IGNORE INTO lines (batch, number, custom_id, start, size, state) VALUES (?, ?, ?, ?, ?, 0)",
                (query.batch_id, line.number, line.custom_id, line.start, line.size),
            )
            if added.rowcount:
                held += _LINE_BYTES + len(line.custom_id)
            else:
                again.append(line.number)
        self._execute("UPDATE batches SET held = held + ? WHERE id = ?", (held, query.batch_id))
        return again

    def clear(self, batch_id: str) -> None:
        self._files.deleted = True
        self._execute("DELETE FROM lines WHERE batch = ?", (batch_id,))
        self._execute("UPDATE batches SET held = ?, completed = 0, failed = 0 WHERE id = ?", (_ROW_BYTES, batch_id))

    def next_lines(self, query: NextLines) -> list[WaitingLine]:
        found = self._execute("SELECT input FROM batches WHERE id = ?", (query.batch_id,)).fetchone()
        rows = self._execute(
            "SELECT number, custom_id, start, size FROM lines WHERE batch = ? AND state = 0 AND number > ?"
            " ORDER BY number LIMIT ?",
            (query.batch_id, query.after, query.limit),
        ).fetchall()
        return [
            WaitingLine(number, name, self._files.part(found[0], start, size)) for number, name, start, size in rows
        ]

    def put_results(self, query: PutResults) -> tuple[int, int]:
        instead = {each.number: each for each in query.instead}
        for result in query.results:
            self._put_result(query.batch_id, result, instead.get(result.number))
        row: tuple[int, int] = self._execute(
            "SELECT completed, failed FROM batches WHERE id = ?", (query.batch_id,)
        ).fetchone()
        return row

    def _put_result(self, batch_id: str, result: LineResult, instead: LineResult | None) -> None:
        if instead is not None:
            (tenant,) = self._execute("SELECT tenant FROM batches WHERE id = ?", (batch_id,)).fetchone()
            if self._files.full(tenant, len(result.line)) is not None:
                result = instead
        done = self._execute(
            "UPDATE lines SET state = ?, result = ? WHERE batch = ? AND number = ? AND state = 0",
            (1 if result.ok else 2, result.line, batch_id, result.number),
        )
        if done.rowcount:
            name = "completed" if result.ok else "failed"
            self._execute(
                f"UPDATE batches SET held = held + ?, {name} = {name} + 1 WHERE id = ?",  # noqa: S608
                (len(result.line), batch_id),
            )

    def finish(self, query: FinishBatch, now: float) -> BatchRecord:
        record = query.record
        for ok, file_id in ((True, query.output_file), (False, query.error_file)):
            count, size = self._execute(
                "SELECT count(*), total(length(result)) FROM lines WHERE batch = ? AND state = ?",
                (record.id, 1 if ok else 2),
            ).fetchone()
            if not count:
                continue
            word = "output" if ok else "error"
            self._files.put_results(
                file_id, record.tenant, f"{record.id}_{word}.jsonl", record.id, ok, int(size), now, record.output_keep_s
            )
            record = msgspec.structs.replace(record, **{f"{word}_file": file_id})
        self.put(record, now)
        found = self.get(GetBatch(record.tenant, record.id))
        assert found is not None, "it is there until it has been kept long enough"
        return found

    def sweep(self, now: float) -> int:
        """Delete batches that have ended long ago, some of them at once. Their results go with their files."""
        rows = self._execute(
            "SELECT id FROM batches WHERE ended AND ended_at <= ? AND id NOT IN (SELECT batch FROM files) LIMIT ?",
            (now - self._keep_s, _MOST_EXPIRED),
        ).fetchall()
        for (batch_id,) in rows:
            self.clear(batch_id)
            self._execute("DELETE FROM batches WHERE id = ?", (batch_id,))
        return len(rows)
