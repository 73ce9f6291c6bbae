"""Whatever ends an engine's thread is posted: nothing waits for a thread that is gone."""

from typing import Any

import trio

from actors.engines.engine_thread import EngineLoaded, EnginePost, LoadFailed
from actors.worker_threads import RealWorkerThreads
from engine.core.engine import Engine
from engine.core.loop import Stop
from engine.messages import EngineFailed, EngineStats
from engine.testing.fake_runner import FakeRunner
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
