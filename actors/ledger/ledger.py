"""The ledger's actor: takes entries, commits them in groups, and replies to `OpenEntry` when its row is committed.

While one group is being committed the next one gathers, so that the writer's thread has one batch at a time and a burst
costs few commits. Nothing is lost with the actor or with the thread: what was not committed is kept in `LedgerState`
and committed by the next life, and a message that was in hand is handed to it. Rows and totals take each entry once.

A lock keeps the file to one process: two would each take the other's open rows for those of a crash.
"""

import fcntl
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec
import structlog
import trio

from actors.api.statistics import LedgerStatistics
from actors.kernel.actor import Actor, Mailbox, Reply
from actors.kernel.errors import ActorDied, ActorError, ServiceFailed
from actors.kernel.thread_bridge import WorkerEvents, WorkerHandle
from actors.kernel.timers import TimerWheel
from actors.ledger.store import (
    Committed,
    LedgerBatch,
    Opened,
    Reopened,
    StoreBusy,
    StoreClosed,
    StoreEvent,
    StoreFailed,
    StoreFailing,
    StoreRetries,
)
from actors.protocol.admission import RestoreUsage
from actors.protocol.ledger import (
    CloseEntry,
    Delivered,
    EntryClosing,
    EntryProgress,
    Flush,
    FlushDue,
    LedgerEntry,
    LedgerMessage,
    OpenEntry,
    WriteRollBack,
    refused_closing,
)
from config.model.settings import LedgerSettings
from policies.rollout.experiment import RollBack

_GROUP = 512
_LINGER_S = 0.05
_CLOSE_S = 5.0
_BLOCKED_S = 2.0
"""A commit that takes longer than this is blocked, not slow."""
log = structlog.get_logger()
_NOTED_EVERY_S = 5.0
"""What was delivered of an open entry is written so often."""
_Entry = tuple[LedgerEntry | EntryProgress | EntryClosing | RollBack | None, Reply[None] | None]


@contextmanager
def ledger_lock(path: Path | str, inherited: int | None = None) -> Iterator[int | None]:
    """Hold `PATH.lock` as long as the ledger is kept; the system frees it with the process. ":memory:" needs none.

    `inherited`: the open file of the process that hands over, which holds the lock with this one; it is owned from here
    on. Yields the open file. Raises ServiceFailed: another process holds it, or the file cannot be made.
    """
    if str(path) == ":memory:":
        if inherited is not None:
            os.close(inherited)
        yield None
        return
    try:
        file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if inherited is not None:
            # Of another ledger, it is of no use.
            unused = file if os.path.sameopenfile(file, inherited) else inherited
            file = inherited if unused == file else file
            os.close(unused)
    except OSError as error:
        raise ServiceFailed(f"the ledger cannot be opened: {error.strerror}: {path}") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceFailed(
                f"the ledger {path} is kept by another process: stop that one, or set [ledger] path to another file"
            ) from None
        yield file
    finally:
        os.close(file)


class LedgerThreads(Protocol):
    """Starts the ledger's thread."""

    def store(self, path: Path | str, on_posts: Callable[[list[StoreEvent]], None]) -> WorkerHandle:
        """A handle that takes `LedgerBatch` and `StoreClosed`; `on_posts` is called in the event loop."""


class LedgerState:
    """Uncommitted entries and the totals. Written by the actor only; outlives its restarts."""

    def __init__(self, settings: LedgerSettings = LedgerSettings()) -> None:  # noqa: B008  (frozen)
        self.settings = settings
        self.waiting: deque[_Entry] = deque()
        """To be written at once."""
        self.ends: deque[EntryClosing | EntryProgress] = deque()
        """To be written with others of their kind; no reply waits for it."""
        self.in_commit: list[_Entry] = []
        self.open: dict[int, LedgerEntry] = {}
        """The entries that are not closed."""
        self.ending: dict[int, tuple[LedgerEntry, EntryClosing]] = {}
        """Those whose end is not written yet."""
        self.failure = ""
        """Why the file cannot be written; empty: it can, as far as is known."""
        self.unwritten_cost = 0.0
        """Money reserved by entries that are not committed."""
        self.held = 0
        """Entries whose answers wait until they are committed."""
        self.settled_total = 0
        self.commits_total = 0
        self.recovered_total = 0
        self.opened = False
        self.asked_at: float | None = None
        """When the writer got its current batch; None: it has none."""
        self.heard_at = 0.0
        """When it last posted anything: between two posts it may hang."""
        self.usage: dict[tuple[str, str, str], tuple[int, int, int]] = {}
        self.costs: dict[tuple[str, str], float] = {}

    def statistics(self) -> LedgerStatistics:
        return LedgerStatistics(
            open=len(self.open),
            settled_total=self.settled_total,
            commits_total=self.commits_total,
            recovered_total=self.recovered_total,
            pending=self.pending,
            failing=bool(self.failure),
            unwritten_cost=self.unwritten_cost,
        )

    @property
    def pending(self) -> int:
        return len(self.waiting) + len(self.ends) + len(self.in_commit)

    def is_failing(self, now: float) -> bool:
        """Whether the file takes nothing, or a commit takes too long: the file is locked, or the disk hangs."""
        return bool(self.failure) or (self.asked_at is not None and now - self.asked_at > _BLOCKED_S)

    def is_blocked(self, now: float) -> bool:
        """Whether new requests are refused: the file fails, and no more may wait in memory."""
        if not self.is_failing(now):
            return False
        settings = self.settings
        if settings.on_failure == "refuse" or self.pending >= settings.unwritten:
            return True
        return settings.unwritten_cost is not None and self.unwritten_cost >= settings.unwritten_cost

    def add(
        self, entry: LedgerEntry | EntryProgress | EntryClosing | RollBack | None, reply: Reply[None] | None = None
    ) -> None:
        """To be written; `reply` is set when it is."""
        if isinstance(entry, EntryClosing | EntryProgress):
            self.ends.append(entry)
            return
        self.waiting.append((entry, reply))
        if isinstance(entry, LedgerEntry):
            self.unwritten_cost += entry.reserved_cost
            self.held += reply is not None

    def write_all(self) -> None:
        """At once, what could wait for others of its kind, too."""
        self.waiting.extend([(each, None) for each in self.ends])
        self.ends.clear()

    def begin_again(self) -> None:
        """Write all entries whose end is not written, before all else: a row that the file has stays as it is."""
        waiting = {entry.entry_id for entry, _ in self.waiting if isinstance(entry, LedgerEntry)}
        entries = [*self.open.values(), *[entry for entry, _ in self.ending.values()]]
        missing = [entry for entry in entries if entry.entry_id not in waiting]
        self.unwritten_cost += sum([entry.reserved_cost for entry in missing])
        self.waiting.extendleft([(entry, None) for entry in reversed(missing)])
        # The batch in hand comes first nevertheless, and its ends find no row.
        self.waiting.extend([(each, None) for each, _ in self.in_commit if isinstance(each, EntryClosing)])

    def committed(self) -> list[_Entry]:
        """What is written now."""
        written, self.in_commit = self.in_commit, []
        for entry, reply in written:
            if isinstance(entry, LedgerEntry):
                self.unwritten_cost -= entry.reserved_cost
                self.held -= reply is not None
            elif isinstance(entry, EntryClosing):
                self.ending.pop(entry.entry_id, None)
        if not self.pending:
            self.unwritten_cost = 0.0
        return written

    def hangs_for_s(self, now: float) -> float:
        """How long the thread has not returned from a try to commit or to open the file; 0: it has nothing to do."""
        return 0.0 if self.asked_at is None else now - max(self.asked_at, self.heard_at)

    def count(self, closing: EntryClosing) -> None:
        key = (closing.tenant, closing.rung, closing.outcome)
        requests, prompt, completion = self.usage.get(key, (0, 0, 0))
        self.usage[key] = (requests + 1, prompt + closing.prompt_tokens, completion + closing.completion_tokens)
        if closing.cost:
            payer = closing.tenant, closing.rung
            self.costs[payer] = self.costs.get(payer, 0.0) + closing.cost
        self.settled_total += 1


class Ledger(Actor[LedgerMessage]):
    """One life of the actor and of its writer thread."""

    redelivered: ClassVar[tuple[type, ...]] = (OpenEntry, CloseEntry, WriteRollBack, Flush)
    """Handled twice, a row that is there stays as it is, and a closed entry is not closed again."""

    def __init__(
        self,
        mailbox: Mailbox[LedgerMessage],
        books: LedgerState,
        path: Path | str,
        *,
        workers: LedgerThreads,
        timers: TimerWheel,
        on_spent: Callable[[RestoreUsage], None],
        delivered: Callable[[int], Delivered | None] = lambda _: None,
    ) -> None:
        """`on_spent` is called when the file is first opened, with the usage from before this process started.

        `delivered`: what the client has of an entry's answer; None: nothing.
        """
        super().__init__(mailbox)
        self._on_spent = on_spent
        self._delivered = delivered
        self._to_note: deque[int] = deque()
        """Open entries that are not noted yet in this round."""
        self._noted_at_once = 0
        self._next_round_at = 0.0
        self._timers = timers
        self._watch = timers.watch(float("inf"), partial(mailbox.put_unbounded, FlushDue()))
        self._watched = False
        """`FlushDue` is on its way. Its time is over up to a tick before it comes, so the time does not tell."""
        self._books = books
        self._path = path
        self._workers = workers
        self._worker: WorkerHandle | None = None
        self._writing = True

    async def run(self) -> None:
        """Open the file and commit until cancelled; then commit the rest and close it."""
        books = self._books
        books.waiting.extendleft(reversed(books.in_commit))
        books.in_commit = []
        books.write_all()
        books.asked_at = self._clock()
        self._worker = self._workers.store(
            self._path, lambda posts: self.mailbox.put_unbounded(WorkerEvents(posts, self))
        )
        try:
            await super().run()
        except trio.Cancelled:
            self._gather()
            raise
        finally:
            # The next life commits this again, but there may be none.
            self._timers.cancel(self._watch)
            self._worker.abandon()
            books.write_all()
            while books.waiting:
                self._worker.send(self._next_batch())
            self._worker.send(StoreClosed())

            with trio.CancelScope(shield=True):
                if not await self._worker.join(_CLOSE_S):
                    log.error("ledger_not_closed", path=str(self._path))

    def on(self, message: LedgerMessage) -> None:
        """Entries wait for the next group; the thread's posts end the current one."""
        books = self._books
        match message:
            case OpenEntry(entry, reply):
                books.open[entry.entry_id] = entry
                books.add(entry, reply)
            case CloseEntry(closing):
                if closing.entry_id in books.open:
                    books.ending[closing.entry_id] = books.open.pop(closing.entry_id), closing
                    books.add(closing)
                    books.count(closing)
            case WriteRollBack(roll_back):
                books.add(roll_back)
            case Flush(reply):
                books.write_all()
                books.add(None, reply)
            case FlushDue():
                self._watched = False
                self._note(self._clock())
                books.write_all()
            case WorkerEvents(posts, life):
                if life is self:
                    for post in posts:
                        self._on_post(post)

    def after_batch(self) -> None:
        books, now = self._books, self._clock()
        if books.is_failing(now):
            self._let_go()
        # Closings do not wake the actor: a timer does while entries are open.
        if (books.open or books.ends) and not self._watched:
            self._watched = True
            self._timers.move(self._watch, now + _LINGER_S)
        if len(books.ends) >= _GROUP:
            books.write_all()
        if self._writing or not books.waiting:
            return
        assert self._worker is not None
        self._writing = True
        books.asked_at = now
        self._worker.send(self._next_batch())

    def _next_batch(self) -> LedgerBatch:
        books = self._books
        group = [books.waiting.popleft() for _ in range(min(len(books.waiting), _GROUP))]
        books.in_commit += group
        return LedgerBatch(tuple([entry for entry, _ in group if entry is not None]))

    def _note(self, now: float) -> None:
        """Note what was delivered of open entries: a part of them at a time, each once in a round."""
        books = self._books
        if books.is_failing(now):
            return
        if not self._to_note and now >= self._next_round_at:
            self._next_round_at = now + _NOTED_EVERY_S
            self._to_note.extend(books.open)
            # In half of the time: the timer is never early.
            self._noted_at_once = math.ceil(len(books.open) * _LINGER_S / (_NOTED_EVERY_S / 2))
        for _ in range(min(self._noted_at_once, len(self._to_note))):
            entry_id = self._to_note.popleft()
            delivered = self._delivered(entry_id) if entry_id in books.open else None
            if delivered is not None:
                books.add(EntryProgress(entry_id, *msgspec.structs.astuple(delivered)))

    def _let_go(self) -> None:
        """Answers wait no longer for the file: they go on unwritten, or are refused, as the settings say."""
        books = self._books
        if books.settings.on_failure == "refuse" and not books.failure:
            # A lock may last only a moment: what waits already goes on waiting, until its own deadline.
            return
        goes_on = books.settings.on_failure == "continue"
        for entries in (books.waiting, books.in_commit):
            # The latest are last, and all that wait are among them.
            for place in range(len(entries) - 1, -1, -1):
                if not books.held:
                    return
                entries[place] = self._without_wait(entries[place], goes_on=goes_on)

    def _without_wait(self, waits: _Entry, *, goes_on: bool) -> _Entry:
        entry, reply = waits
        if reply is None or not isinstance(entry, LedgerEntry):
            return waits
        self._books.held -= 1
        if goes_on:
            reply.set(None)
        else:
            reply.fail(ActorDied(f"the ledger cannot be written: {self._books.failure}"))
            self.mailbox.put_unbounded(CloseEntry(refused_closing(entry)))
        return entry, None

    def _gather(self) -> None:
        """At a stop: handle the messages that are still in the mailbox."""
        while len(self.mailbox):
            message = self.mailbox.take()
            try:
                self.on(message)
            except Exception:
                log.exception("ledger_entry_lost", kind=type(message).__name__)
        self.mailbox.done()

    def _on_post(self, post: StoreEvent) -> None:
        books = self._books
        books.heard_at = self._clock()
        match post:
            case Opened(recovered, spent):
                books.recovered_total += recovered
                if books.opened:
                    # What happened to the file meanwhile is not known.
                    books.begin_again()
                else:
                    self._on_spent(spent)
                books.opened = True
                if recovered:
                    log.warning("ledger_recovered", rows=recovered)
                self._free()
            case Committed():
                committed = books.committed()
                books.commits_total += 1
                if books.failure:
                    log.warning("ledger_back", path=str(self._path), unwritten=books.pending)
                    books.failure = ""
                for _, reply in committed:
                    if reply is not None:
                        reply.set(None)
                self._free()
            case StoreBusy():
                log.warning("ledger_locked", path=str(self._path), hint="another process holds it; waiting for it")
            case StoreFailing(message):
                log.error(
                    "ledger_failing",
                    path=str(self._path),
                    error=message,
                    on_failure=books.settings.on_failure,
                    unwritten=books.pending,
                    hint="it is tried again every second",
                )
                books.failure = message
            case Reopened(is_other):
                if is_other:
                    log.error("ledger_begins_again", path=str(self._path), open=len(books.open))
                    books.begin_again()
            case StoreFailed(message):
                raise (ActorError if books.opened else ServiceFailed)(f"{message}: {self._path}")
            case StoreRetries() | StoreClosed():
                pass

    def _free(self) -> None:
        self._writing = False
        self._books.asked_at = None
