"""Starts the service's threads and processes beside the event loop."""

import secrets
import subprocess
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol, TypeVar

import msgspec
import trio

from actors.batches.batch_store import BatchStore
from actors.batches.stored_batches import BatchThreads
from actors.control.policy_reloader import ConfigProcess
from actors.engines.engine_process import start_engine_process
from actors.engines.engine_thread import (
    EngineLoaded,
    EngineLoading,
    EnginePost,
    EngineProgram,
    EngineSource,
    EngineThreads,
    LoadFailed,
)
from actors.kept.kept_journal import KeptThreads
from actors.kept.kept_store import (
    KeptBatch,
    KeptStore,
    KeptStoreClosed,
    KeptStoreEvent,
    delivered_before,
    keep_on_disk,
)
from actors.kernel.clock import WallClock, system_time
from actors.kernel.spare_processes import SpareProcesses
from actors.kernel.store_calls import AskedStore, StoreCall, StoreEnd, StoreReply, answer_calls
from actors.kernel.thread_bridge import NICE, LongWork, ThreadBridge, TimeSlices, WorkerHandle, WorkerPool
from actors.ledger.ledger import LedgerThreads
from actors.ledger.store import LedgerBatch, Store, StoreClosed, StoreEvent, keep_books
from actors.protocol.ledger import Delivered
from actors.stored.response_store import ResponseStore
from actors.stored.stored_responses import ResponseThreads
from config.load import LoadedConfig
from config.model.table import AUTO
from config.problems.errors import ConfigError, ConfigReaderError, Problem
from config.reader import COMMAND, decode_report
from engine.core.loop import StepLoop, Stop
from engine.errors import EngineError
from engine.memory.machine import available_cores
from engine.messages import Command, EngineFailed
from policies.queueing.turn_queue import WorkFor

T = TypeVar("T")
_READ_S = 120.0


class WorkerThreads(
    EngineThreads, LedgerThreads, KeptThreads, ResponseThreads, BatchThreads, ConfigProcess, WorkerPool, Protocol
):
    """All threads and processes of the service. Tests replace it by one on their own clock."""


class RealWorkerThreads:
    """A thread or a process for each engine, one thread for each file, a few for long texts. Made in the event loop."""

    def __init__(
        self,
        at_once: int = AUTO,
        off_cpu: Collection[str] = (),
        *,
        wall: WallClock = system_time,
        kept_file: Path | None = None,
        open_responses: Callable[[], ResponseStore] | None = None,
        open_batches: Callable[[], BatchStore] | None = None,
        wait_for_ledger: Callable[[], bool] | None = None,
    ) -> None:
        """`at_once`: see `CoreSettings`. `off_cpu`: engines on another device, which need no time slices.

        `kept_file`: of the kept answers. `open_responses`, `open_batches`: open the stores of responses and of batches.
        `wait_for_ledger`: blocks until the ledger may be opened; it returns whether another process still writes it.
        """
        self._wall = wall
        self._kept_file = kept_file
        self._open_responses = open_responses
        self._open_batches = open_batches
        self._turns = TimeSlices(available_cores() if at_once == AUTO else at_once)
        self._off_cpu = frozenset(off_cpu)
        self._long_work = LongWork()
        self._spares = SpareProcesses()
        self._life = secrets.token_hex(8)
        self._ledger_was_open = False
        self._wait_for_ledger = wait_for_ledger

    def engine(self, name: str, source: EngineSource, on_posts: Callable[[list[EnginePost]], None]) -> WorkerHandle:
        """Load and run the engine in a thread or a process of its own."""
        if isinstance(source, EngineProgram):
            return start_engine_process(name, source, on_posts, self._spares)
        factory = source
        turn = None if name in self._off_cpu else self._turns.join()

        def body(inbox: "SimpleQueue[Command | Stop]", post: Callable[[EnginePost], None]) -> None:
            try:
                engine = factory(lambda what: post(EngineLoading(what)))
                loaded = EngineLoaded(engine.limits, engine.stats(), engine.adapters, engine.read_adapter)
            except EngineError as error:
                post(LoadFailed(error.message))
                return
            except BaseException as error:  # noqa: BLE001  (a model directory can be broken in any way)
                post(LoadFailed(f"{type(error).__name__}: {error}"))
                return
            post(loaded)
            try:
                StepLoop(engine, inbox, post, turn).run()
            except BaseException as error:  # noqa: BLE001  (a panic of a Rust library is no Exception)
                # The loop posts errors of its steps. This is what fails as it ends, or is no Exception.
                post(EngineFailed("engine_thread_failed", f"engine {name}: {type(error).__name__}: {error}"))

        return ThreadBridge(f"engine {name}", body, on_posts, nice=NICE)

    def store(self, path: Path | str, on_posts: Callable[[list[StoreEvent]], None]) -> WorkerHandle:
        """Write the ledger in a thread of its own."""
        insists = self._ledger_was_open

        def body(inbox: "SimpleQueue[LedgerBatch | StoreClosed]", post: Callable[[StoreEvent], None]) -> None:
            def open_store() -> Store:
                # Rows that are open later are of the process before or after this one, which closes them itself.
                beside = self._ledger_was_open or (self._wait_for_ledger is not None and self._wait_for_ledger())
                store = Store(path, self._life, self._wall, beside=beside, delivered=self._delivered)
                self._ledger_was_open = True
                return store

            keep_books(open_store, inbox.get, post, insists=insists)

        return ThreadBridge("ledger", body, on_posts)

    def kept_store(self, on_posts: Callable[[list[KeptStoreEvent]], None], *, fresh: bool) -> WorkerHandle:
        """Write the kept answers in a thread of its own."""
        path = self._kept_file
        assert path is not None, "only with a file"

        def body(inbox: "SimpleQueue[KeptBatch | KeptStoreClosed]", post: Callable[[KeptStoreEvent], None]) -> None:
            keep_on_disk(lambda: KeptStore(path, fresh=fresh), inbox.get, post)

        return ThreadBridge("kept answers", body, on_posts)

    def response_store(self, on_posts: Callable[[list[StoreReply]], None]) -> WorkerHandle:
        """Keep responses in a thread of its own."""
        assert self._open_responses is not None, "only where responses are stored"
        return _store_thread("stored responses", self._open_responses, on_posts)

    def batch_store(self, on_posts: Callable[[list[StoreReply]], None]) -> WorkerHandle:
        """Keep files and batches in a thread of its own."""
        assert self._open_batches is not None, "only where there are batches"
        return _store_thread("batches", self._open_batches, on_posts)

    def _delivered(self) -> Mapping[str, Delivered]:
        return {} if self._kept_file is None else delivered_before(self._kept_file)

    async def run_in_thread(self, job: Callable[[], T], work_for: WorkFor | None = None) -> T:
        return await self._long_work.run(job, work_for)

    async def read_config(self, path: Path, text: str | None = None) -> LoadedConfig:
        """In a process of its own, so that it delays no answer."""
        command = [*COMMAND, *([] if text is None else ["--stdin"]), str(path)]
        try:
            with trio.fail_after(_READ_S):
                done = await trio.run_process(command, stdin=(text or "").encode(), capture_stdout=True)
            report = decode_report(done.stdout)
        except (OSError, trio.TooSlowError, subprocess.CalledProcessError, msgspec.DecodeError) as error:
            message = f"the process that reads it failed ({type(error).__name__}: {error})"
            raise ConfigReaderError([Problem(file=path, line=0, column=0, where="", message=message)]) from error
        if report.loaded is None:
            raise ConfigError(report.problems)
        return report.loaded


def _store_thread(
    name: str, open_store: Callable[[], AskedStore], on_posts: Callable[[list[StoreReply]], None]
) -> WorkerHandle:
    def body(inbox: "SimpleQueue[StoreCall | StoreEnd]", post: Callable[[StoreReply], None]) -> None:
        answer_calls(open_store, inbox.get, post)

    return ThreadBridge(name, body, on_posts)
