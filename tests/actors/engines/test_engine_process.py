"""An engine in a real process of its own: it serves as a thread does, and its end costs nothing else."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.engines.engine_thread import EngineLoaded, EngineLoading, EnginePost, EngineProgram, LoadFailed
from actors.worker_threads import RealWorkerThreads
from engine.core.engine import Engine
from engine.core.loop import Stop
from engine.errors import ModelError
from engine.hosting.wire import HostedEngine
from engine.messages import Abort, Command, EngineFailed, StepReport
from engine.sampling.grammar import Grammar, Grammars
from tests.e2e.process import until
from tests.engine.driving import Answers, engine_settings, submit
from tests.engine.hosting.child import COMMAND, POISON, runner
from tests.engine.tiny_tokenizers import byte_level_tokenizer
from tests.paths import ROOT
from tests.patience import PATIENCE_S


class Worker:
    """An engine of either kind, and what it has posted."""

    def __init__(self) -> None:
        self.posts: list[EnginePost] = []
        self.handle: Any = None
        self._came = trio.Event()

    def on_posts(self, posts: list[EnginePost]) -> None:
        self.posts += posts
        self._came.set()
        self._came = trio.Event()

    async def until(self, done: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not done():
                await self._came.wait()

    async def until_last_is(self, *kinds: type) -> EnginePost:
        await self.until(lambda: bool(self.posts) and isinstance(self.posts[-1], kinds))
        return self.posts[-1]

    @property
    def answers(self) -> Answers:
        answers = Answers()
        for post in self.posts:
            if isinstance(post, StepReport):
                answers.add(post)
        return answers

    def finished(self) -> int:
        return sum(
            output.finish is not None for post in self.posts if isinstance(post, StepReport) for output in post.outputs
        )

    async def run(self, *commands: Command) -> Answers:
        for command in commands:
            self.handle.send(command)
        await self.until(lambda: self.finished() == len(commands))
        return self.answers

    async def end(self) -> None:
        self.handle.abandon()
        self.handle.send(Stop())
        assert await self.handle.join(PATIENCE_S)


@asynccontextmanager
async def process(fault: str = "", *, ready: bool = True) -> AsyncIterator[Worker]:
    worker = Worker()
    program = EngineProgram(HostedEngine(engine_settings(), "small", message=fault), COMMAND)
    worker.handle = RealWorkerThreads().engine("small", program, worker.on_posts)
    try:
        if ready:
            await worker.until_last_is(EngineLoaded)
        yield worker
    finally:
        await worker.end()
        assert gone(worker.handle.pid)


@asynccontextmanager
async def thread() -> AsyncIterator[Worker]:
    worker = Worker()

    def make(_: Any) -> Engine:
        return Engine(runner(), byte_level_tokenizer(), engine_settings(), name="small", seed=7)

    worker.handle = RealWorkerThreads().engine("small", make, worker.on_posts)
    try:
        await worker.until_last_is(EngineLoaded)
        yield worker
    finally:
        await worker.end()


def gone(pid: int) -> bool:
    """Ended and reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_it_loads_with_progress_and_its_end_is_reaped() -> None:
    async with process() as worker:
        first, last = worker.posts
        assert first == EngineLoading("waking up")
        assert isinstance(last, EngineLoaded)
        assert (last.limits.vocab_size, last.stats.total_blocks) == (512, 1023)
        assert not gone(worker.handle.pid)
        with pytest.raises(ModelError, match="thread"):
            last.read_adapter(Path("x"))


async def test_the_answers_are_a_threads_token_by_token() -> None:
    """Greedy, seeded, with log-probabilities, bound by a grammar, and with a prompt that is scored."""
    grammar = Grammars(byte_level_tokenizer()).compile(Grammar("regex", "(ab|cd)+e"))
    commands = [
        submit(1, range(5, 25), max_tokens=40),
        submit(2, [9, 8, 7], max_tokens=30, temperature=1.0, seed=11, logprobs=3, prompt_logprobs=1),
        submit(3, [4], max_tokens=20, grammar=grammar, ignore_eos=False),
        submit(4, [9, 8, 7], max_tokens=30, stop=("x",), presence_penalty=0.5, logit_bias=((7, 1.5),)),
        submit(5, [600], max_tokens=3),
    ]
    async with thread() as one, process() as other:
        ours, theirs = await one.run(*commands), await other.run(*commands)
    assert ours.keys() == theirs.keys() == {1, 2, 3, 4, 5}
    for number, answer in ours.items():
        assert repr(theirs[number]) == repr(answer)  # a prompt's first log-probability is NaN
    assert theirs[5].finish.code == "token_out_of_vocabulary"


async def test_one_that_is_killed_is_reported_with_how() -> None:
    async with process() as worker:
        worker.handle.send(submit(1, [5], max_tokens=1000))
        await worker.until(lambda: bool(worker.answers))
        os.kill(worker.handle.pid, signal.SIGKILL)
        failed = await worker.until_last_is(EngineFailed)
        assert failed.code == "engine_process_lost"
        assert failed.message.startswith("the process of engine small was killed by SIGKILL")
        worker.handle.send(Abort(1))  # nobody is there, and nothing breaks


async def test_one_that_exits_in_a_step_is_reported_with_its_code() -> None:
    async with process("poison") as worker:
        worker.handle.send(submit(1, [POISON]))
        failed = await worker.until_last_is(EngineFailed)
        assert failed.message == "the process of engine small ended with exit code 9"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("ends while loading", "its process ended with exit code 3 while it was loading"),
        ("refuses", "it is broken"),
        ("raises", "OSError: no such file"),
        ("garbage", "its process sent what cannot be read"),
    ],
)
async def test_one_that_cannot_be_loaded_says_why(fault: str, message: str) -> None:
    async with process(fault, ready=False) as worker:
        await worker.until(lambda: any(isinstance(post, LoadFailed) for post in worker.posts))
        failed = next(post for post in worker.posts if isinstance(post, LoadFailed))
        before = worker.posts[: worker.posts.index(failed)]
        assert failed.message.startswith(message)
        # What comes together with something unreadable is lost with it.
        assert before == [EngineLoading("waking up")] or (fault == "garbage" and not before)


async def test_one_that_hangs_is_killed_when_it_is_left() -> None:
    async with process() as worker:
        os.kill(worker.handle.pid, signal.SIGSTOP)
        worker.handle.send(submit(1, [5]))
        await worker.end()
        assert gone(worker.handle.pid)


async def test_one_that_takes_no_commands_is_killed_before_they_fill_the_memory(monkeypatch) -> None:
    monkeypatch.setattr("actors.kernel.process_bridge._BACKLOG_BYTES", 100_000)
    async with process() as worker:
        os.kill(worker.handle.pid, signal.SIGSTOP)
        for number in range(1000):
            worker.handle.send(submit(number, range(500), max_tokens=1))
        failed = await worker.until_last_is(EngineFailed)
        assert failed.message == "the process of engine small took no commands and was killed"


async def test_more_than_a_pipe_holds_goes_through_both_ways() -> None:
    async with process() as worker:
        commands = [submit(number, range(400), max_tokens=1, prompt_logprobs=20) for number in range(60)]
        answers = await worker.run(*commands)
        assert len(answers) == 60


def test_it_ends_with_the_gateway_however_that_ends() -> None:
    """A gateway that is killed has no time to end it."""
    script = """
import os, signal, trio
from tests.actors.engines.test_engine_process import process

async def main():
    async with process() as worker:
        print(worker.handle.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""
    gateway = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    assert gateway.returncode == -signal.SIGKILL
    pid = int(gateway.stdout)
    # Where no process of the system reaps it, it stays as a zombie.
    until(lambda: gone(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
