"""The ledger's SQLite file: one row a request, opened before its first content and closed at its end.

A row that is still open when the file is opened was left by a crash: it is charged what was reserved, and marked; one
of a kept answer is charged what was delivered.
Everything here blocks and belongs to one thread. Rows are dated by the clock that the store is given.
"""

import datetime as dt
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_never, wait_random_exponential

from actors.api.errors import LedgerFileError
from actors.kernel.clock import WallClock, system_time
from actors.ledger.usage_sums import UsageSums, fill_sums
from actors.protocol.admission import RestoreUsage
from actors.protocol.ledger import Delivered, EntryClosing, LedgerEntry
from policies.rollout.experiment import RollBack

SCHEMA = 4
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
    PRIMARY KEY (number, life)
) WITHOUT ROWID;
CREATE INDEX open_requests ON requests (life) WHERE closed_at IS NULL;
CREATE INDEX by_tenant ON requests (tenant, opened_at);
"""
_ADDED = {"reserved_cost": "REAL NOT NULL DEFAULT 0", "cost": "REAL", "degraded": "TEXT", "cascade": "TEXT"}
"""Columns that older files lack."""
# One statement for all rows of a batch: the sqlite3 module releases and reacquires the interpreter lock for every
# statement, which can cost a whole switch interval each time while other threads are busy.
# The order of the primary key and `ifnull` force the good plan: from each closing to its row, by the key.
# A batch whose commit failed is committed again by the next writer: a row that is there already stays as it is.
# Values come in the order of the messages' fields.
_OPEN = f"""
INSERT OR IGNORE INTO requests
    (life, opened_at, number, request_id, tenant, model, route, prompt_tokens, reserved_tokens, reserved_cost, cascade)
SELECT ?, ?, {", ".join([f"json_extract(value, '$[{place}]')" for place in range(9)])} FROM json_each(?)
"""  # noqa: S608  (constants of this file)
_CLOSE = """
UPDATE requests SET rung = closing.rung, outcome = closing.outcome, why = closing.why, degraded = closing.degraded,
    prompt_tokens = closing.prompt, completion_tokens = closing.completion, discarded_tokens = closing.discarded,
    cost = closing.cost, closed_at = ?
FROM (
    SELECT json_extract(value, '$[0]') AS number, json_extract(value, '$[2]') AS rung,
        json_extract(value, '$[3]') AS outcome, json_extract(value, '$[4]') AS why,
        json_extract(value, '$[5]') AS prompt, json_extract(value, '$[6]') AS completion,
        json_extract(value, '$[7]') AS discarded, json_extract(value, '$[8]') AS cost,
        json_extract(value, '$[9]') AS degraded
    FROM json_each(?)
) AS closing
WHERE requests.number = closing.number AND life = ? AND ifnull(closed_at, '') = ''
"""
_RECOVER = (
    "UPDATE requests SET rung = '', outcome = 'crashed', why = 'crashed', "
    "completion_tokens = max(reserved_tokens - prompt_tokens, 0), discarded_tokens = 0, "
    "cost = reserved_cost, "
    "closed_at = ? WHERE closed_at IS NULL AND life <> ?"
)
_RECOVER_KNOWN = (
    "UPDATE requests SET rung = '', outcome = 'crashed', why = 'crashed', prompt_tokens = ?, completion_tokens = ?, "
    "discarded_tokens = 0, cost = ?, closed_at = ? WHERE closed_at IS NULL AND life <> ? AND request_id = ?"
)


class LedgerBatch(msgspec.Struct, frozen=True):
    """The content of one commit."""

    lines: tuple[LedgerEntry | EntryClosing | RollBack, ...]


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


class StoreFailed(msgspec.Struct, frozen=True):
    """Writing failed; the current batch is not committed."""

    message: str


StoreEvent = Opened | Committed | StoreClosed | StoreBusy | StoreFailed


def _is_busy(error: BaseException) -> bool:
    """Whether another process has locked the file."""
    # The low byte is the primary error code.
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }


class Store:
    """An open file."""

    def __init__(
        self,
        path: Path | str,
        life: str,
        wall: WallClock = system_time,
        delivered: Callable[[], Mapping[str, Delivered]] = dict,
    ) -> None:
        """`life` names this process: rows that another one has left open are charged now.

        `delivered`: by request id, what that process is known to have delivered; all others owe what they reserved.
        Raises sqlite3.Error or LedgerFileError.
        """
        self._life = life
        self._delivered = delivered
        self.wall = wall
        self._connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
        try:
            self.recovered = self._prepare(path)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, path: Path | str) -> int:
        execute = self._connection.execute
        execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version < SCHEMA:
            self._bring_up_to_date(is_new=version == 0)
        elif version > SCHEMA:
            raise LedgerFileError(
                f"{path} is a ledger of version {version}; this program writes version {SCHEMA}: "
                "move the file away or set [ledger] path to another one"
            )
        self._sums = UsageSums(self._connection)
        return self._recover()

    def _recover(self) -> int:
        """Close what an ended process has left open; returns the number of rows."""
        execute = self._connection.execute
        left = execute(
            "SELECT request_id FROM requests WHERE closed_at IS NULL AND life <> ?", (self._life,)
        ).fetchall()
        known = self._delivered() if left else {}
        execute("BEGIN IMMEDIATE")
        try:
            for (request_id,) in left:
                if (each := known.get(request_id)) is not None:
                    values = each.prompt_tokens, each.completion_tokens, each.cost, self._now(), self._life, request_id
                    execute(_RECOVER_KNOWN, values)
            execute(_RECOVER, (self._now(), self._life))
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
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

    def commit(self, batch: LedgerBatch) -> None:
        """Commit the whole batch or nothing. Raises sqlite3.Error."""
        lines = [msgspec.structs.astuple(each) for each in batch.lines if isinstance(each, LedgerEntry)]
        closings = [
            (*msgspec.structs.astuple(each)[:-1], ",".join(each.degraded))
            for each in batch.lines
            if isinstance(each, EntryClosing)
        ]
        roll_backs = [each for each in batch.lines if isinstance(each, RollBack)]
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            if lines:
                execute(_OPEN, (self._life, self._now(), msgspec.json.encode(lines).decode()))
            if closings:
                execute(_CLOSE, (self._now(), msgspec.json.encode(closings).decode(), self._life))
            for each in roll_backs:
                self._sums.roll_back(each)
            self._sums.prune(self.wall())
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def spent(self, at: float) -> RestoreUsage:
        """Usage from before this process started that still counts at `at`."""
        return self._sums.spent(at)

    def close(self) -> None:
        """The file is whole without its WAL."""
        self._connection.close()

    def _now(self) -> str:
        return dt.datetime.fromtimestamp(self.wall(), dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def keep_books(
    open_store: Callable[[], Store],
    receive: Callable[[], LedgerBatch | StoreClosed],
    post: Callable[[StoreEvent], None],
) -> None:
    """Write batches until `StoreClosed`, or until writing fails; a locked file is waited for without limit."""

    def report_busy(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            post(StoreBusy())

    patiently = Retrying(
        retry=retry_if_exception(_is_busy),
        stop=stop_never,
        wait=wait_random_exponential(multiplier=0.05, max=1.0),
        before_sleep=report_busy,
        reraise=True,
    )
    try:
        store = patiently(open_store)
    except (sqlite3.Error, OSError, LedgerFileError) as error:
        post(StoreFailed(f"the ledger cannot be opened: {error}"))
        return
    post(Opened(store.recovered, store.spent(store.wall())))
    try:
        while isinstance(command := receive(), LedgerBatch):
            patiently(store.commit, command)
            post(Committed())
    except sqlite3.Error as error:
        post(StoreFailed(f"the ledger cannot be written: {error}"))
    finally:
        store.close()
    post(StoreClosed())
