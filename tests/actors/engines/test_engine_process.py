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
import trio.testing

from actors.api.request import InferenceRequest, ParsedBody, TokenPrompt
from actors.api.response import Delta
from actors.engines.engine_thread import EngineLoaded, EngineLoading, EnginePost, EngineProgram, LoadFailed
from actors.service import Service
from actors.worker_threads import RealWorkerThreads
from engine.core.engine import Engine
from engine.core.loop import Stop
from engine.errors import ModelError
from engine.hosting.wire import HostedEngine
from engine.lora.adapters import Adapter, PreparedAdapter, WantedAdapter
from engine.messages import Abort, AddAdapter, Command, DropAdapter, EngineFailed, StepReport
from engine.sampling.grammar import Grammar, Grammars
from engine.sampling.params import SamplingParams
from tests.actors.fakes import CONFIG, model_text, settings_of
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
async def process(fault: str = "", *, ready: bool = True, **hosted: Any) -> AsyncIterator[Worker]:
    worker = Worker()
    program = EngineProgram(HostedEngine(engine_settings(), "small", message=fault, **hosted), COMMAND)
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


def children() -> set[int]:
    """Processes that this one has started: those of other tests, too."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(each) for each in listed}


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "legal").mkdir()
    (tmp_path / "legal" / "adapter_model.safetensors").write_text("legal")
    return tmp_path / "legal"


async def read(worker: Worker, folder: Path) -> PreparedAdapter:
    loaded = next(post for post in worker.posts if isinstance(post, EngineLoaded))
    assert loaded.read_adapter is not None
    prepared: PreparedAdapter = await trio.to_thread.run_sync(loaded.read_adapter, folder)
    return prepared


async def test_its_adapters_are_a_threads(folder: Path) -> None:
    found = []
    for kind in (process, thread):
        async with kind() as worker:
            prepared = await read(worker, folder)
            worker.handle.send(AddAdapter(Adapter("legal", 5, folder, prepared)))
            answers = await worker.run(submit(1, [5, 6, 7], adapter="legal"), submit(2, [5, 6, 7]))
            uses = [(use.name, use.version, use.current) for use in worker.posts[-1].adapters]
            worker.handle.send(DropAdapter("legal"))
            worker.handle.send(submit(3, [5], adapter="legal"))
            await worker.until(lambda: worker.finished() == 3)
            refused = worker.answers[3].finish.code
            with pytest.raises(ModelError, match="holds no adapter") as caught:
                await read(worker, folder / "none")
            found.append((answers[1].tokens, answers[2].tokens, uses, refused, caught.value.code,
                          prepared.digest, prepared.rank, prepared.memory_bytes))  # fmt: skip
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]
    assert found[0][2:5] == ([("legal", 5, True)], "adapter_not_loaded", "adapter_files")


async def test_adapters_that_it_begins_with(folder: Path) -> None:
    wanted = (WantedAdapter("legal", 2, folder), WantedAdapter("gone", 1, folder / "none"))
    async with process(adapters=wanted) as worker:
        loaded = worker.posts[-1]
        assert [(each.name, each.version, each.path) for each in loaded.adapters] == [("legal", 2, folder)]
        answers = await worker.run(submit(1, [5, 6, 7], adapter="legal"))
        assert answers[1].finish.adapter_version == 2
    async with process(adapters=wanted, needs_adapters=True, ready=False) as worker:
        failed = await worker.until_last_is(LoadFailed)
        assert failed.message.startswith("its adapter 'gone' cannot be loaded")


async def test_an_adapter_that_is_being_read_when_it_dies(folder: Path) -> None:
    async with process() as worker, trio.open_nursery() as nursery:
        os.kill(worker.handle.pid, signal.SIGSTOP)
        failed: list[ModelError] = []

        async def ask() -> None:
            with pytest.raises(ModelError) as caught:
                await read(worker, folder)
            failed.append(caught.value)

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.05)
        os.kill(worker.handle.pid, signal.SIGKILL)
        await worker.until_last_is(EngineFailed)
        await worker.until(lambda: True)
    assert [each.code for each in failed] == ["engine_process_lost"]


async def test_a_process_that_died_has_its_adapters_again(folder: Path) -> None:
    settings = settings_of(CONFIG.replace("[models.small]", "[models.small]\nadapters = true"))
    engines = {name: [EngineProgram(HostedEngine(engine_settings(), name), COMMAND)] for name in settings.engines}
    service = Service(settings, engines, texts={name: model_text() for name in settings.engines})

    async def tokens(number: int, model: str) -> list[int]:
        body = ParsedBody(
            model=model, prompts=(TokenPrompt((5, 6, 7)),), params=SamplingParams(max_tokens=6, temperature=0.0)
        )
        request = InferenceRequest(request_id=f"r{number}", body=body, arrived_at=trio.current_time())
        response = await service.open(request)
        found: list[int] = []
        while events := await response.next_events():
            found += [token for event in events if isinstance(event, Delta) for token in event.token_ids]
        response.close()
        return found

    async def until_true(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  (polled, as health probes do)
            await trio.sleep(0.01)

    others = children()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            await until_true(lambda: service.readiness().ready)
            view = await service.admin.adapters.load("small", "legal", folder)
            assert (view.name, view.version, view.current) == ("legal", 1, True)
            legal, plain = await tokens(1, "small:legal"), await tokens(2, "small")
            assert legal != plain
            await service.admin.adapters.load("small", "legal", None)
            restarts = service.statistics().engine_restarts_total["small"]
            for pid in children() - others:
                os.kill(pid, signal.SIGKILL)
            await until_true(lambda: service.statistics().engine_restarts_total["small"] > restarts)
            await until_true(lambda: bool(service.admin.adapters.views("small")))
            assert [(each.name, each.version) for each in service.admin.adapters.views("small")] == [("legal", 2)]
            assert await tokens(3, "small:legal") == legal
            await service.admin.adapters.unload("small", "legal")
            assert service.admin.adapters.views("small") == ()
            nursery.cancel_scope.cancel()


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
