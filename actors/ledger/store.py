"""The ledger's SQLite file: one row a request, opened before its first content and closed at its end.

A row that is still open when the file is opened was left by a crash. It is marked, and charged what was last noted of
the answer's delivery, which the client has at least: nothing if nothing was noted. Of a kept answer it is known to the
token.
Everything here blocks and belongs to one thread. Rows are dated by the clock that the store is given.
"""

import datetime as dt
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_never, wait_random_exponential

from actors.api.errors import LedgerFileError
from actors.kernel.clock import WallClock, system_time
from actors.kernel.transaction import transaction
from actors.ledger.usage_sums import UsageSums, fill_sums
from actors.protocol.admission import RestoreUsage
from actors.protocol.ledger import Delivered, EntryClosing, EntryProgress, LedgerEntry
from policies.rollout.experiment import RollBack

T = TypeVar("T")

SCHEMA = 6
_PATIENCE_MS = 2000
"""How long SQLite waits for a lock before it reports that the file is busy."""
_TABLES = """
CREATE TABLE requests (
    life TEXT NOT NULL,
    number INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    model TEXT NOT NULL,
    route TEXT NOT NULL,
    opened_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    reserved_tokens INTEGER NOT NULL,
    reserved_cost REAL NOT NULL DEFAULT 0,
    cost REAL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER,
    discarded_tokens INTEGER,
    rung TEXT,
    outcome TEXT,
    why TEXT,
    degraded TEXT,
    cascade TEXT,
    closed_at TEXT,
    key TEXT,
    user TEXT,
    arm TEXT,
    tags TEXT,
    batch TEXT,
    PRIMARY KEY (number, life)
) WITHOUT ROWID;
CREATE INDEX open_requests ON requests (life) WHERE closed_at IS NULL;
CREATE INDEX by_tenant ON requests (tenant, opened_at);
"""
_ADDED = {
    "reserved_cost": "REAL NOT NULL DEFAULT 0",
    "cost": "REAL",
    **dict.fromkeys(("degraded", "cascade", "key", "user", "arm", "tags", "batch"), "TEXT"),
}
"""Columns that older files lack. `tags` is a JSON array."""
# One statement for many rows: the sqlite3 module releases and reacquires the interpreter lock for every statement,
# which can cost a whole switch interval each time while other threads are busy.
# The order of the primary key and `ifnull` force the good plan: from each closing to its row, by the key.
# A batch whose commit failed is committed again by the next writer: a row that is there already stays as it is.
# Values come in the order of the messages' fields.
_ROWS_AT_ONCE = 32
"""Rows of one statement at most: each number of rows is a statement of its own, which the module keeps."""
_OPEN = """
INSERT OR IGNORE INTO requests
    (life, opened_at, number, request_id, tenant, model, route, prompt_tokens, reserved_tokens, reserved_cost, cascade,
    key, user, arm, tags, batch)
SELECT ?, strftime('%Y-%m-%dT%H:%M:%fZ', column15, 'unixepoch'), column1, column2, column3, column4, column5, column6,
    column7, column8, column9, column10, column11, column12, column13, column14
FROM (VALUES {rows})
"""
_CLOSE = """
WITH closing (number, rung, outcome, why, prompt, completion, discarded, cost, degraded) AS (VALUES {rows})
UPDATE requests SET rung = closing.rung, outcome = closing.outcome, why = closing.why, degraded = closing.degraded,
    prompt_tokens = closing.prompt, completion_tokens = closing.completion, discarded_tokens = closing.discarded,
    cost = closing.cost, closed_at = ?
FROM closing WHERE requests.number = closing.number AND life = ? AND ifnull(closed_at, '') = ''
"""
_NOTE = """
WITH noted (number, prompt, completion, cost) AS (VALUES {rows})
UPDATE requests SET prompt_tokens = noted.prompt, completion_tokens = noted.completion, cost = noted.cost
FROM noted WHERE requests.number = noted.number AND life = ? AND ifnull(closed_at, '') = ''
"""
_RECOVER = (
    "UPDATE requests SET rung = '', outcome = 'crashed', why = 'crashed', "
    "prompt_tokens = CASE WHEN completion_tokens IS NULL THEN 0 ELSE prompt_tokens END, "
    "completion_tokens = ifnull(completion_tokens, 0), discarded_tokens = 0, cost = ifnull(cost, 0), "
    "closed_at = ? WHERE closed_at IS NULL AND life <> ?"
)
_RECOVER_KNOWN = (
    "UPDATE requests SET rung = '', outcome = 'crashed', why = 'crashed', prompt_tokens = ?, completion_tokens = ?, "
    "discarded_tokens = 0, cost = ?, closed_at = ? WHERE closed_at IS NULL AND life <> ? AND request_id = ?"
)


class LedgerBatch(msgspec.Struct, frozen=True):
    """The content of one commit."""

    lines: tuple[LedgerEntry | EntryProgress | EntryClosing | RollBack, ...]


class StoreClosed(msgspec.Struct, frozen=True):
    """As a command: close the file. As a post: it is closed."""


class Opened(msgspec.Struct, frozen=True):
    """The file is open."""

    recovered: int
    spent: RestoreUsage


class Committed(msgspec.Struct, frozen=True):
    """One batch is in the file."""


class StoreBusy(msgspec.Struct, frozen=True):
    """Another process has locked the file; the commit is retried until it succeeds."""


class StoreFailing(msgspec.Struct, frozen=True):
    """The file cannot be written now; the commit is retried, with the file opened again, until it succeeds."""

    message: str


class Reopened(msgspec.Struct, frozen=True):
    """The file was opened again after a failure."""

    is_other: bool
    """It is not the one that was open before, which was deleted or replaced."""


class StoreRetries(msgspec.Struct, frozen=True):
    """The commit has failed once more, for the reason that was reported: the thread does not hang."""


class StoreFailed(msgspec.Struct, frozen=True):
    """The thread has ended; the current batch is not committed."""

    message: str


StoreEvent = Opened | Reopened | Committed | StoreClosed | StoreBusy | StoreFailing | StoreRetries | StoreFailed


def _is_busy(error: BaseException) -> bool:
    """Whether another process has locked the file."""
    # The low byte is the primary error code.
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }


def _may_pass(error: BaseException) -> bool:
    """Whether the file, not what is written to it, is to blame: a later try may succeed."""
    damaged = type(error) is sqlite3.DatabaseError
    return damaged or isinstance(error, sqlite3.OperationalError | OSError | LedgerFileError)


@lru_cache(maxsize=3 * _ROWS_AT_ONCE)
def _for_rows(statement: str, values: int, rows: int) -> str:
    row = f"({', '.join(['?'] * values)})"
    return statement.format(rows=", ".join([row] * rows))


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


class Store:
    """An open file."""

    def __init__(
        self,
        path: Path | str,
        life: str,
        wall: WallClock = system_time,
        connect: Callable[[str], sqlite3.Connection] = _connect,
        *,
        beside: bool = False,
        delivered: Callable[[], Mapping[str, Delivered]] = dict,
    ) -> None:
        """`life` names this process: rows that another one has left open are charged now.

        `beside`: another process may still run, which closes its rows itself; until then they count as reserved.
        `delivered`: by request id, what an ended process has delivered; of others what was noted last counts.

        Raises sqlite3.Error or LedgerFileError.
        """
        self._life = life
        self._delivered = delivered
        self.wall = wall
        self._beside = beside
        self._path = None if str(path) == ":memory:" else Path(path)
        self.is_new = False
        """The file was empty or not there."""
        self._connection = connect(str(path))
        try:
            self.recovered = self._prepare(path)
            self.file = self._identity()
            """What identifies it; None: it is in memory, or was deleted meanwhile."""
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, path: Path | str) -> int:
        execute = self._connection.execute
        execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        version = execute("PRAGMA user_version").fetchone()[0]
        self.is_new = version == 0
        if version < SCHEMA:
            self._bring_up_to_date(is_new=version == 0)
        elif version > SCHEMA:
            raise LedgerFileError(
                f"{path} is a ledger of version {version}; this program writes version {SCHEMA}: "
                "move the file away or set [ledger] path to another one"
            )
        self._sums = UsageSums(self._connection)
        return 0 if self._beside else self._recover()

    def _recover(self) -> int:
        """Close what an ended process has left open; returns the number of rows."""
        execute = self._connection.execute
        left = execute(
            "SELECT request_id FROM requests WHERE closed_at IS NULL AND life <> ?", (self._life,)
        ).fetchall()
        known = self._delivered() if left else {}
        with transaction(self._connection):
            for (request_id,) in left:
                if (each := known.get(request_id)) is not None:
                    values = each.prompt_tokens, each.completion_tokens, each.cost, self._now(), self._life, request_id
                    execute(_RECOVER_KNOWN, values)
            execute(_RECOVER, (self._now(), self._life))
        return len(left)

    def _bring_up_to_date(self, *, is_new: bool) -> None:
        """For an old file every row is read once, which may take seconds per million."""
        there = {each[1] for each in self._connection.execute("PRAGMA table_info(requests)")}
        steps = [
            _TABLES
            if is_new
            else "".join(
                f"ALTER TABLE requests ADD COLUMN {name} {kind};" for name, kind in _ADDED.items() if name not in there
            ),
            fill_sums(self.wall()),
            f"PRAGMA user_version = {SCHEMA};",
        ]
        try:
            self._connection.executescript(f"BEGIN IMMEDIATE; {' '.join(steps)} COMMIT;")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _identity(self) -> tuple[int, int] | None:
        """Of the file at the path: SQLite goes on writing to one that was moved or deleted, and no one would read it.

        None: there is none, or it is in memory.
        """
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def commit(self, batch: LedgerBatch) -> None:
        """Commit the whole batch or nothing. Raises sqlite3.Error, and LedgerFileError if the file is there no more."""
        if self._identity() != self.file:
            raise LedgerFileError(f"{self._path} was moved or deleted")
        entries: list[Sequence[Any]] = []
        closings: list[Sequence[Any]] = []
        notes: list[Sequence[Any]] = []
        roll_backs: list[RollBack] = []
        for each in batch.lines:
            match each:
                case LedgerEntry():
                    *values, tags, in_batch, admitted_at = msgspec.structs.astuple(each)
                    at = self.wall() if admitted_at is None else admitted_at
                    entries.append((*values, msgspec.json.encode(tags).decode(), in_batch, at))
                case EntryClosing():
                    number, _tenant, *values, degraded = msgspec.structs.astuple(each)
                    closings.append((number, *values, ",".join(degraded)))
                case EntryProgress():
                    notes.append(msgspec.structs.astuple(each))
                case RollBack():
                    roll_backs.append(each)
        now = self._now()
        with transaction(self._connection):
            self._write(_OPEN, entries, before=(self._life,))
            self._write(_NOTE, notes, after=(self._life,))
            self._write(_CLOSE, closings, after=(now, self._life))
            for each in roll_backs:
                self._sums.roll_back(each)
            self._sums.prune(self.wall())

    def _write(
        self,
        statement: str,
        rows: list[Sequence[Any]],
        *,
        before: tuple[str, ...] = (),
        after: tuple[str, ...] = (),
    ) -> None:
        """Carry out a statement for rows of equally many values. `before`, `after`: its other values."""
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            group = rows[first : first + _ROWS_AT_ONCE]
            given = [*before, *chain.from_iterable(group), *after]
            self._connection.execute(_for_rows(statement, len(group[0]), len(group)), given)

    def spent(self, at: float) -> RestoreUsage:
        """Usage from before this process started that still counts at `at`."""
        return self._sums.spent(at, with_open=self._beside)

    def close(self) -> None:
        """The file is whole without its WAL."""
        self._connection.close()

    def _now(self) -> str:
        return dt.datetime.fromtimestamp(self.wall(), dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class _Insisting:
    """Writes batches, and opens the file again after a failure, until a write succeeds."""

    def __init__(self, open_store: Callable[[], Store], post: Callable[[StoreEvent], None]) -> None:
        self._open_store = open_store
        self._post = post
        self._store: Store | None = None
        self._file: tuple[int, int] | None = None
        """The one that was open last, and ..."""
        self._is_gone = False
        """... it is not there any more. A new one may look the same: numbers of deleted files are used again."""
        self._reported = ""

    def open(self, *, insists: bool) -> Opened:
        """Open the file; a locked one is waited for. `insists`: so is one that cannot be read for another reason."""
        return self._patiently(self._open, _may_pass if insists else _is_busy)

    def _open(self) -> Opened:
        store = self._open_store()
        try:
            opened = Opened(store.recovered, store.spent(store.wall()))
        except BaseException:
            store.close()
            raise
        self._store, self._file = store, store.file
        return opened

    def commit(self, batch: LedgerBatch) -> None:
        self._patiently(lambda: self._try(batch), _may_pass)

    def _try(self, batch: LedgerBatch) -> None:
        if self._store is None:
            store = self._store = self._open_store()
            self._post(Reopened(self._is_gone or store.is_new or store.file != self._file))
            self._file, self._is_gone = store.file, False
        try:
            self._store.commit(batch)
        except BaseException as error:
            self._is_gone = self._is_gone or isinstance(error, LedgerFileError)
            if not _is_busy(error):
                self.close()
            raise

    def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _patiently(self, work: Callable[[], T], may_pass: Callable[[BaseException], bool]) -> T:
        self._reported = ""
        try:
            # Nearly always once is enough, and the retrying takes a hundred calls.
            return work()
        except Exception as error:
            if not may_pass(error):
                raise
            self._report(error)
        patiently = Retrying(
            retry=retry_if_exception(may_pass),
            stop=stop_never,
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            before_sleep=self._report_again,
            reraise=True,
        )
        return patiently(work)

    def _report_again(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        error = state.outcome.exception()
        assert error is not None
        self._report(error)

    def _report(self, error: BaseException) -> None:
        """Post each reason once."""
        what = "busy" if _is_busy(error) else str(error)
        if what == self._reported:
            self._post(StoreRetries())
        else:
            self._reported = what
            self._post(StoreBusy() if _is_busy(error) else StoreFailing(what))


def keep_books(
    open_store: Callable[[], Store],
    receive: Callable[[], LedgerBatch | StoreClosed],
    post: Callable[[StoreEvent], None],
    *,
    insists: bool = False,
) -> None:
    """Write batches until `StoreClosed`. What the file does not take is tried again without limit.

    A file that cannot be opened ends this, unless `insists`: it was open before.
    """
    file = _Insisting(open_store, post)
    try:
        opened = file.open(insists=insists)
    except Exception as error:  # noqa: BLE001  (else the thread ends without a post)
        post(StoreFailed(f"the ledger cannot be opened: {error}"))
        return
    post(opened)
    try:
        while isinstance(command := receive(), LedgerBatch):
            file.commit(command)
            post(Committed())
    except Exception as error:  # noqa: BLE001  (else the thread ends without a post)
        post(StoreFailed(f"the ledger cannot be written: {error}"))
    finally:
        file.close()
    post(StoreClosed())
