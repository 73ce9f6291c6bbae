"""An SQLite file with prompts and answers: only its owner may read it, and what is deleted is overwritten."""

import os
import sqlite3
from pathlib import Path

_WAL_BYTES = 4 << 20
_FREED_PAGES = 256
"""Pages that are given back to the file system at once, at most."""


def make_private(path: Path | str) -> None:
    """Create the file if it is not there; no one else may read it. Raises OSError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    Path(path).chmod(0o600)


def prepare_content(
    connection: sqlite3.Connection, path: Path | str | None, *, tables: str, owner: int, schema: int, setting: str
) -> None:
    """Make the tables in an empty file, or check whose it is and of which version.

    `tables`: statements that also set `user_version` to `schema` and `application_id` to `owner`. `setting`: what names
    the file in the configuration. Raises sqlite3.Error.
    """
    try:
        _prepare(connection, tables=tables, owner=owner, schema=schema)
    except sqlite3.Error as error:
        error.args = (f"{setting} = {path}: {error}",)
        raise


def _prepare(connection: sqlite3.Connection, *, tables: str, owner: int, schema: int) -> None:
    execute = connection.execute
    execute("PRAGMA auto_vacuum = INCREMENTAL")
    execute("PRAGMA secure_delete = ON")
    execute("PRAGMA journal_mode = WAL")
    execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    execute("PRAGMA synchronous = NORMAL")
    version, found = (execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))
    if not version and not found and not execute("SELECT 1 FROM sqlite_master").fetchone():
        # Another process may do the same at this moment.
        connection.executescript(f"BEGIN IMMEDIATE; {tables} COMMIT;")
    elif found != owner:
        raise sqlite3.DatabaseError("it holds something else: give another file")
    elif version != schema:
        raise sqlite3.DatabaseError(
            f"it was written by another version ({version}; this program writes {schema}): delete it"
        )


def free_pages(connection: sqlite3.Connection) -> None:
    """Give pages of deleted rows back to the file system."""
    # A script is stepped to its end: `execute` would free one page.
    connection.executescript(f"PRAGMA incremental_vacuum({_FREED_PAGES})")
