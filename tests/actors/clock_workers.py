"""Engines and the ledger's file on the test's own clock: what stands in for `RealWorkerThreads`."""

import sqlite3
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from actors.batches.batch_store import BatchStore
from actors.batches.file_rows import FileLimits
from actors.engines.engine_thread import EngineLoaded, EngineLoading, LoadFailed
from actors.kept.kept_store import KeptCommitted, KeptOpened, KeptStore, KeptStoreClosed, KeptStoreFailed
from actors.kernel.store_calls import StoreCall, StoreReply
from actors.ledger.store import (
    Committed,
    LedgerBatch,
    Opened,
    Store,
    StoreBusy,
    StoreClosed,
    StoreFailed,
    StoreFailing,
    StoreRetries,
)
from actors.stored.response_store import ResponseStore
from config.problems.errors import ConfigError, ConfigReaderError, Problem
from config.reader import decode_report, encode_report, report
from engine.core.embedder import Embedder
from engine.core.engine import Engine
from engine.core.loop import Stop
from engine.errors import EngineError
from engine.messages import EngineFailed


class ClockEngineWorker:
    """The step loop as a task; `test_clock_workers.py` holds it to the thread that serves."""

    def __init__(self, nursery: trio.Nursery, factory, on_posts, step_s: float, load_s: float) -> None:
        self.step_s = step_s
        self.load_s = load_s
        self.hang = False
        self.engine: Engine | Embedder | None = None
        self.ended = trio.Event()
        self._inbox: deque[Any] = deque()
        self._sent = trio.Event()
        self._on_posts = on_posts
        nursery.start_soon(self._run, factory)

    def send(self, command: Any) -> None:
        self._inbox.append(command)
        self._sent.set()

    def abandon(self) -> None:
        self._on_posts = None

    async def join(self, timeout_s: float) -> bool:
        with trio.move_on_after(timeout_s):
            await self.ended.wait()
        return self.ended.is_set()

    def stacks(self) -> str:
        return "a task has none"

    def _post(self, value: Any) -> None:
        if self._on_posts is not None:
            self._on_posts([value])

    async def _run(self, factory) -> None:
        try:
            await trio.sleep(self.load_s)
            try:
                self.engine = engine = factory(lambda what: self._post(EngineLoading(what)))
            except EngineError as error:
                self._post(LoadFailed(error.message))
                return
            except Exception as error:  # noqa: BLE001 - as the thread does
                self._post(LoadFailed(f"{type(error).__name__}: {error}"))
                return
            self._post(EngineLoaded(engine.limits, engine.stats(), engine.adapters, engine.read_adapter))
            try:
                while await self._drain(engine):
                    await trio.sleep(self.step_s)
                    if not self.hang and self._drain_now(engine):
                        self._post(engine.step())
                engine.abort_all()
                self._post(engine.step())
            except EngineError as error:
                self._post(EngineFailed(error.code, error.message))
            except Exception as error:  # noqa: BLE001 - as the thread does
                message = f"engine {engine.name} failed: {type(error).__name__}: {error}"
                self._post(EngineFailed("engine_failed", message))
            finally:
                engine.close()
        finally:
            self.ended.set()

    async def _drain(self, engine: Engine | Embedder) -> bool:
        while not self._inbox and (self.hang or not engine.has_work):
            self._sent = trio.Event()
            await self._sent.wait()
        if any(isinstance(command, Stop) for command in self._inbox):
            return False
        self._drain_now(engine)
        return True

    def _drain_now(self, engine: Engine | Embedder) -> bool:
        while self._inbox and not isinstance(self._inbox[0], Stop):
            engine.accept(self._inbox.popleft())
        return engine.has_work


def connection(store: Store) -> sqlite3.Connection:
    """To what the ledger has written, as only tests read it."""
    return store._connection


class InlineStore:
    """The ledger's file in memory, written at once, unless the workers say otherwise."""

    def __init__(self, path, on_posts, workers: "ClockWorkerThreads") -> None:
        self._on_posts = on_posts
        self._workers = workers
        self._closed = False
        trio.lowlevel.current_trio_token().run_sync_soon(
            self.post, Opened(0, workers.store_file.spent(workers.store_file.wall()))
        )

    def send(self, command: Any) -> None:
        if isinstance(command, StoreClosed):
            self._closed = True
            return
        assert isinstance(command, LedgerBatch)
        if self._workers.killed:
            return
        if self._workers.locked is not None:
            if not self._workers.locked:
                self.post(StoreFailing(self._workers.failing) if self._workers.failing else StoreBusy())
                self._workers.says_it_tries(self)
            self._workers.locked.append(partial(self.send, command))
            return
        if self._workers.ledger_errors:
            self.post(StoreFailed(self._workers.ledger_errors.pop()))
            return
        self._workers.store_file.commit(command)
        self.post(Committed())

    def abandon(self) -> None:
        self._on_posts = None

    async def join(self, timeout_s: float) -> bool:
        await trio.lowlevel.checkpoint()
        return self._closed

    def stacks(self) -> str:
        return "a task has none"

    def post(self, post: Any) -> None:
        if self._on_posts is not None:
            self._on_posts([post])


class InlineQueryStore:
    """Stored responses, or files and batches, written at once."""

    def __init__(self, on_posts, store) -> None:
        self._on_posts = on_posts
        self._store = store

    def send(self, command: Any) -> None:
        if isinstance(command, StoreCall):
            reply = StoreReply(command.number, self._store.carry_out(command.query))
            trio.lowlevel.current_trio_token().run_sync_soon(self._on_posts, [reply])

    def abandon(self) -> None:
        self._store.close()

    async def join(self, timeout_s: float) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    def stacks(self) -> str:
        return "it has none"


class InlineKeptStore:
    """The file of kept answers, written at once, unless the workers say otherwise."""

    def __init__(self, on_posts, workers: "ClockWorkerThreads", *, fresh: bool) -> None:
        self._on_posts = on_posts
        self._workers = workers
        self._closed = False
        self.store: KeptStore | None = None
        try:
            if workers.kept_errors:
                raise sqlite3.OperationalError(workers.kept_errors.pop())
            self.store = KeptStore(workers.kept_file, fresh=fresh)
        except (sqlite3.Error, OSError) as error:
            self._soon(KeptStoreFailed(str(error)))
        else:
            self._soon(KeptOpened(self.store.answers, self.store.unreadable))

    def send(self, command: Any) -> None:
        if self._workers.killed or self._closed:
            return
        if isinstance(command, KeptStoreClosed):
            self._closed = True
            if self.store is not None:
                self.store.close()
            return
        if self._workers.kept_hangs:
            return
        try:
            if self._workers.kept_errors:
                raise sqlite3.OperationalError(self._workers.kept_errors.pop())
            self.store.commit(command)
        except sqlite3.Error as error:
            self._soon(KeptStoreFailed(str(error)))
        else:
            self._workers.kept_commits += 1
            self._soon(KeptCommitted())

    def abandon(self) -> None:
        self._on_posts = None

    async def join(self, timeout_s: float) -> bool:
        await trio.lowlevel.checkpoint()
        return self._closed

    def _soon(self, post: Any) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(self._post, post)

    def _post(self, post: Any) -> None:
        if self._on_posts is not None:
            self._on_posts([post])


class ClockWorkerThreads:
    """What `RealWorkerThreads` does, as tasks on the test's clock."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        step_s: float = 0.1,
        load_s: float = 0.0,
        store: Store | None = None,
        kept_file: Path | str = ":memory:",
        batch_file: BatchStore | None = None,
    ) -> None:
        """`batch_file`: None: a new one in memory."""
        self.reader_fails = False
        self._nursery = nursery
        self.step_s = step_s
        self.load_s = load_s
        self.lives: dict[str, list[ClockEngineWorker]] = {}
        self.store_file = store or Store(":memory:", "test")
        # Tests read it for as long as they like; from Python 3.13 on nobody but us closes it.
        weakref.finalize(self.store_file, connection(self.store_file).close)
        self.ledger_errors: list[str] = []
        self.locked: list[Callable[[], None]] | None = None
        """What waits while another process holds the file, or it fails; None: it can be written."""
        self.failing = ""
        self.kept_file: Path | str = kept_file
        self.kept_stores: list[InlineKeptStore] = []
        self.kept_errors: list[str] = []
        self.kept_hangs = False
        self.kept_commits = 0
        self.batch_file = batch_file
        self.killed = False

    def kill(self) -> None:
        """As SIGKILL: nothing is written any more, and the system closes the files."""
        self.killed = True
        for each in self.kept_stores:
            if each.store is not None:
                each.store.close()

    def lock(self, failing: str = "") -> None:
        """`failing`: why the file cannot be written; empty: another process has locked it."""
        self.locked = []
        self.failing = failing

    def says_it_tries(self, store: InlineStore) -> None:
        locked = self.locked

        async def say() -> None:
            while self.locked is locked and not self.killed:
                await trio.sleep(1)
                store.post(StoreRetries())

        self._nursery.start_soon(say)

    def unlock(self) -> None:
        waiting, self.locked = self.locked or [], None
        for send in waiting:
            send()

    def engine(self, name, factory, on_posts) -> ClockEngineWorker:
        worker = ClockEngineWorker(self._nursery, factory, on_posts, self.step_s, self.load_s)
        self.lives.setdefault(name, []).append(worker)
        return worker

    def store(self, path, on_posts) -> InlineStore:
        return InlineStore(path, on_posts, self)

    def kept_store(self, on_posts, *, fresh: bool) -> InlineKeptStore:
        made = InlineKeptStore(on_posts, self, fresh=fresh)
        self.kept_stores.append(made)
        return made

    def response_store(self, on_posts) -> InlineQueryStore:
        return InlineQueryStore(
            on_posts, ResponseStore(None, most_bytes=1 << 24, keep_s=3600.0, wall=trio.current_time)
        )

    def batch_store(self, on_posts) -> InlineQueryStore:
        return InlineQueryStore(
            on_posts, self.batch_file or BatchStore(None, FileLimits(1 << 24, 1 << 22, 1e6), trio.current_time)
        )

    async def run_in_thread(self, job, work_for=None):
        await trio.lowlevel.checkpoint()
        return job()

    async def read_config(self, path, text=None):
        await trio.lowlevel.checkpoint()
        if self.reader_fails:
            raise ConfigReaderError([Problem(file=path, message="the process that reads it failed")])
        found = decode_report(encode_report(report(path, text)))
        if found.loaded is None:
            raise ConfigError(found.problems)
        return found.loaded
