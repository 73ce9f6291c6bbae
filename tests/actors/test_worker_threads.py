"""Whatever ends an engine's thread is posted: nothing waits for a thread that is gone."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from actors.engines.engine_thread import EngineLoaded, EnginePost, LoadFailed
from actors.ledger.store import Committed, LedgerBatch, Opened, Reopened, Store, StoreClosed, StoreEvent
from actors.protocol.ledger import EntryClosing, LedgerEntry
from actors.worker_threads import RealWorkerThreads
from engine.core.engine import Engine
from engine.core.loop import Stop
from engine.messages import EngineFailed, EngineStats
from engine.testing.fake_runner import FakeRunner
from tests.actors.clock_workers import connection
from tests.engine.driving import engine_settings
from tests.engine.tiny_tokenizers import byte_level_tokenizer
from tests.patience import PATIENCE_S


class CannotCount(Engine):
    def stats(self) -> EngineStats:
        raise ZeroDivisionError("no blocks")


class Panic(BaseException):
    """As PyO3 raises for a panic in Rust."""


class Panics(Engine):
    def abort_all(self) -> None:
        raise Panic("index out of bounds")


class CannotClose(Engine):
    def close(self) -> None:
        super().close()
        raise OSError("the device is gone")


async def posts_of(kind: type[Engine], until: type) -> list[EnginePost]:
    """What the thread posts until one of this type."""
    seen: list[EnginePost] = []
    came = trio.Event()

    def on_posts(posts: list[EnginePost]) -> None:
        seen.extend(posts)
        if any(isinstance(post, until) for post in seen):
            came.set()

    def make(_: Any) -> Engine:
        return kind(FakeRunner(), byte_level_tokenizer(), engine_settings(), seed=7)

    worker = RealWorkerThreads().engine("small", make, on_posts)
    worker.send(Stop())
    with trio.fail_after(PATIENCE_S):
        await came.wait()
        assert await worker.join(PATIENCE_S)
    return seen


async def test_an_engine_that_cannot_say_what_it_has_is_not_loaded() -> None:
    (failed,) = await posts_of(CannotCount, LoadFailed)
    assert isinstance(failed, LoadFailed)
    assert failed.message == "ZeroDivisionError: no blocks"


async def test_a_failure_as_the_loop_ends_is_posted() -> None:
    first, *_, last = await posts_of(CannotClose, EngineFailed)
    assert isinstance(first, EngineLoaded)
    assert last == EngineFailed("engine_thread_failed", "engine small: OSError: the device is gone")


async def test_a_panic_of_a_library_is_posted() -> None:
    *_, last = await posts_of(Panics, EngineFailed)
    assert last == EngineFailed("engine_thread_failed", "engine small: Panic: index out of bounds")


async def test_a_ledger_that_is_opened_again_leaves_the_rows_of_the_process_that_took_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.sqlite3"
    entry = LedgerEntry(1, "r1", "alice", "small", "route", 10, 100, 0.5)
    closing = EntryClosing(1, "alice", "small", "ok", "asked_for", 10, 5, 0, 0.25)
    fails: list[bool] = []
    commit = Store.commit

    def commit_or_fail(store: Store, batch: LedgerBatch) -> None:
        if fails:
            fails.clear()
            raise OSError("Input/output error")
        commit(store, batch)

    monkeypatch.setattr(Store, "commit", commit_or_fail)
    heard: list[StoreEvent] = []
    handle = RealWorkerThreads().store(path, heard.extend)

    async def until(kind: type, count: int = 1) -> None:
        with trio.fail_after(PATIENCE_S):
            while sum(isinstance(post, kind) for post in heard) < count:  # noqa: ASYNC110  (a thread posts)
                await trio.sleep(0.01)

    await until(Opened)
    # As after a hand-over: the other process leaves this one's rows alone, and has an answer that runs.
    other = Store(path, "successor", beside=True)
    other.commit(LedgerBatch((entry,)))
    fails.append(True)
    handle.send(LedgerBatch((msgspec.structs.replace(entry, request_id="r2"),)))
    await until(Reopened)
    await until(Committed)
    other.commit(LedgerBatch((closing,)))
    rows = connection(other).execute("SELECT request_id, ifnull(outcome, '') FROM requests ORDER BY 1").fetchall()
    assert rows == [("r1", "ok"), ("r2", "")]
    other.close()
    handle.send(StoreClosed())
    assert await handle.join(PATIENCE_S)
