"""The step loop as a task, which most tests use, posts what the thread that serves posts, for the same commands.

On the real clock, as there are threads. A script says what is sent before the engine is there, inside which steps,
and, one command at a time, whenever the engine has nothing left to do.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from msgspec import structs

from actors.engines.engine_thread import EngineLoaded, LoadFailed
from actors.worker_threads import RealWorkerThreads
from engine.core.embedder import Embedder
from engine.core.engine import Engine
from engine.core.loop import Stop
from engine.errors import EngineError, ModelError
from engine.messages import Abort, AddAdapter, DropAdapter, Embed, EngineFailed, ExpectTokens, StepReport
from engine.testing.fake_encoder import FakeEncoder
from engine.testing.fake_runner import FakeRunner
from tests.actors.clock_workers import ClockWorkerThreads
from tests.engine.driving import adapter, engine_settings, submit
from tests.engine.tiny_tokenizers import byte_level_tokenizer
from tests.patience import PATIENCE_S


def generates(on_step: Callable[..., None], **changes: Any) -> Engine:
    runner = FakeRunner(on_step=on_step, total_blocks=changes.pop("total_blocks", 1024))
    return Engine(runner, byte_level_tokenizer(), engine_settings(**changes), seed=7, clock=lambda: 0.0)


def preempts(on_step: Callable[..., None]) -> Engine:
    return generates(on_step, total_blocks=8)


def embeds(on_step: Callable[..., None]) -> Embedder:
    return Embedder(FakeEncoder(on_step=on_step), engine_settings(max_running=2), clock=lambda: 0.0)


def fails(error: Exception) -> Callable[..., Any]:
    def make(on_step: Callable[..., None]) -> Engine:
        raise error

    return make


@dataclass
class Script:
    name: str
    at_once: Sequence[Any] = ()
    """Sent before the engine is loaded."""
    at_step: Mapping[int, Sequence[Any]] = field(default_factory=dict)
    """Sent from inside a step; an exception is raised there instead."""
    when_idle: Sequence[Any] = ()
    make: Callable[..., Any] = generates
    ends_with: type = StepReport


class Refuses(Engine):
    """An engine with a fault that nobody foresaw."""

    def accept(self, command: Any) -> None:
        raise ZeroDivisionError("no such thing")


SCRIPTS = [
    Script("one after the other", when_idle=[submit(0, [1], max_tokens=3), submit(1, [2], max_tokens=2), Stop()]),
    Script(
        "together",
        at_once=[submit(number, [number] * 20, max_tokens=3 + number) for number in range(1, 4)],
        when_idle=[Stop()],
    ),
    Script(
        "some are aborted",
        at_once=[submit(0, [1] * 40, max_tokens=30), submit(1, [2], max_tokens=8)],
        at_step={2: [Abort(0), submit(2, [3], max_tokens=2)], 3: [Abort(2), Abort(77)]},
        when_idle=[Stop()],
    ),
    Script("a refusal is an output", when_idle=[submit(0, []), submit(0, [1], max_tokens=2), Stop()]),
    Script("stopped in between", at_once=[submit(0, [1], max_tokens=30)], at_step={4: [Stop(), submit(1, [1])]}),
    Script("stopped before it began", at_once=[Stop(), submit(0, [1], max_tokens=3)]),
    Script(
        "adapters come and go",
        at_once=[AddAdapter(adapter("legal")), submit(0, [1], max_tokens=6, adapter="legal")],
        at_step={
            2: [AddAdapter(adapter("legal", 2)), DropAdapter("none")],
            3: [DropAdapter("legal"), AddAdapter(adapter("sql"))],
        },
        when_idle=[submit(1, [1], max_tokens=3, adapter="legal"), Stop()],
    ),
    Script(
        "a draft",
        at_once=[submit(0, [1], max_tokens=8)],
        at_step={2: [ExpectTokens(0, 2, (5, 6, 7))]},
        when_idle=[Stop()],
    ),
    Script(
        "blocks run short",
        at_once=[submit(number, [number] * 30, max_tokens=40) for number in range(1, 4)],
        when_idle=[Stop()],
        make=preempts,
    ),
    Script(
        "vectors",
        at_once=[Embed(sequence_id=number, token_ids=(number, 5)) for number in range(1, 6)],
        at_step={0: [Abort(5)]},
        when_idle=[Embed(sequence_id=9, token_ids=()), Stop()],
        make=embeds,
    ),
    Script(
        "a step fails",
        at_once=[submit(0, [1], max_tokens=30)],
        at_step={3: [RuntimeError("device lost")]},
        ends_with=EngineFailed,
    ),
    Script(
        "a step fails with a code",
        at_once=[submit(0, [1], max_tokens=30)],
        at_step={0: [EngineError("cuda_lost", "restart it")]},
        ends_with=EngineFailed,
    ),
    Script(
        "a command fails",
        at_once=[submit(0, [1])],
        make=lambda _: Refuses(FakeRunner(), byte_level_tokenizer(), engine_settings()),
        ends_with=EngineFailed,
    ),
    Script("it cannot be loaded", make=fails(ModelError("model_not_found", "no such folder")), ends_with=LoadFailed),
    Script("loading has a fault", make=fails(ValueError("not a number")), ends_with=LoadFailed),
]


async def posts_of(workers: Any, script: Script) -> list[Any]:
    """All posts of one engine, from its first word to its end."""
    posts: list[Any] = []
    when_idle = iter(script.when_idle)
    sent = threading.Event()

    def on_step(number: int, _: Any) -> None:
        for command in script.at_step.get(number, ()):
            if isinstance(command, Exception):
                raise command
            handle.send(command)

    def factory(progress: Callable[[str], None]) -> Any:
        assert sent.wait(PATIENCE_S)
        progress("half")
        return script.make(on_step)

    def on_posts(new: list[Any]) -> None:
        for post in new:
            posts.append(post)
            idle = isinstance(post, EngineLoaded) and not script.at_once
            if isinstance(post, StepReport):
                idle = post.stats.running == post.stats.waiting == 0 and not script.at_step.get(
                    post.stats.steps_total - 1
                )
            if idle and (command := next(when_idle, None)) is not None:
                handle.send(command)

    handle = workers.engine("engine", factory, on_posts)
    for command in script.at_once:
        handle.send(command)
    sent.set()
    assert await handle.join(PATIENCE_S)
    return [structs.replace(post, read_adapter=None) if isinstance(post, EngineLoaded) else post for post in posts]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
async def test_the_task_posts_what_the_thread_posts(script: Script) -> None:
    served = await posts_of(RealWorkerThreads(), script)
    async with trio.open_nursery() as nursery:
        assert await posts_of(ClockWorkerThreads(nursery, step_s=0.0), script) == served
    assert isinstance(served[-1], script.ends_with)
    assert len(served) > 2 or script.ends_with is LoadFailed


@pytest.mark.parametrize("kind", [RealWorkerThreads, ClockWorkerThreads])
async def test_an_abandoned_engine_is_heard_of_no_more_and_ends(kind: type) -> None:
    heard: list[Any] = []
    async with trio.open_nursery() as nursery:
        workers = RealWorkerThreads() if kind is RealWorkerThreads else ClockWorkerThreads(nursery, step_s=0.0)
        handle = workers.engine("engine", lambda _: generates(lambda *_: None), heard.extend)
        handle.abandon()
        handle.send(Stop())
        assert await handle.join(PATIENCE_S)
    assert heard == []
