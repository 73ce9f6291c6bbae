"""The SQLite store of files, batches and results, in a file or in memory.

Everything here blocks and belongs to one thread. Several processes may have the same file open. Each row belongs to a
tenant, and no query of a client finds another tenant's. It holds prompts and answers, so only its owner may read the
file, and what is deleted is overwritten.
"""

import sqlite3
from pathlib import Path
from typing import Any

from actors.batches import batch_rows, file_rows
from actors.batches.batch_rows import BatchRows
from actors.batches.file_rows import FileLimits, FileRows
from actors.batches.store_queries import (
    AddLines,
    AddPiece,
    BatchQuery,
    BeginFile,
    ClearLines,
    DropFile,
    EndFile,
    FileSums,
    FinishBatch,
    GetBatch,
    GetFile,
    ListBatches,
    ListFiles,
    NewBatch,
    NextLines,
    PutBatch,
    PutResults,
    ReadFile,
    SweepFiles,
    UnfinishedBatches,
)
from actors.kernel.clock import WallClock
from actors.kernel.content_file import free_pages, make_private, prepare_content
from actors.kernel.transaction import transaction

SCHEMA = 1
_APPLICATION = 0x70656E62
"""SQLite's mark of whose file it is."""
_PATIENCE_MS = 2000
_TABLES = f"""
{file_rows.TABLES}
{batch_rows.TABLES}
PRAGMA user_version = {SCHEMA};
PRAGMA application_id = {_APPLICATION};
"""


class BatchStore:
    """An open store."""

    def __init__(self, path: Path | None, limits: FileLimits, wall: WallClock) -> None:
        """`path`: None for a store in memory. Raises sqlite3.Error and OSError."""
        self._wall = wall
        self.in_memory = path is None
        if path is not None:
            make_private(path)
        self._connection = sqlite3.connect(str(path or ":memory:"), isolation_level=None, check_same_thread=False)
        try:
            self._connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
            prepare_content(
                self._connection, path, tables=_TABLES, owner=_APPLICATION, schema=SCHEMA, setting="[batch] file"
            )
        except BaseException:
            self._connection.close()
            raise
        self._files = FileRows(self._connection, limits)
        self._batches = BatchRows(self._connection, self._files, limits.keep_s)

    def carry_out(self, query: BatchQuery) -> Any:
        """What the query gives. Raises sqlite3.Error; nothing is changed then."""
        with transaction(self._connection):
            value = self._carry_out(query, self._wall())
        if self._files.deleted:
            self._files.deleted = False
            free_pages(self._connection)
        return value

    def _carry_out(self, query: BatchQuery, now: float) -> Any:
        files, batches = self._files, self._batches
        match query:
            case BeginFile():
                return files.begin(query, now)
            case AddPiece():
                return files.add(query)
            case EndFile():
                return files.end(query, now)
            case GetFile():
                return files.get(query)
            case ListFiles():
                return files.page(query)
            case ReadFile():
                return files.read(query)
            case DropFile():
                return files.drop(query)
            case NewBatch():
                return batches.new(query)
            case PutBatch(record):
                return batches.put(record, now)
            case GetBatch():
                return batches.get(query)
            case ListBatches():
                return batches.page(query)
            case UnfinishedBatches():
                return batches.unfinished()
            case AddLines():
                return batches.add_lines(query)
            case ClearLines(batch_id):
                return batches.clear(batch_id)
            case NextLines():
                return batches.next_lines(query)
            case PutResults():
                return batches.put_results(query)
            case FinishBatch():
                return batches.finish(query, now)
            case SweepFiles():
                return files.sweep(now) + batches.sweep(now)
            case FileSums():
                (count,) = self._connection.execute("SELECT count(*) FROM files WHERE whole = 1").fetchone()
                return int(count), files.held("", ())

    def close(self) -> None:
        self._connection.close()
