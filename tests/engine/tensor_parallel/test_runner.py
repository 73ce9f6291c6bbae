"""Two ranks that compute one model: the same answers, and no process left in whatever way it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import msgspec
import pytest
import torch

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes, Seconds
from engine.core.engine import Engine
from engine.core.loop import StepLoop, Stop
from engine.errors import EngineDead, EngineError, ModelError
from engine.messages import Command, EngineFailed, StepReport, Submit
from engine.sampling.params import SamplingParams
from engine.tensor_parallel.runner import TensorRunner
from engine.text.tokenizer import Tokenizer
from engine.torch_runner import TorchRunner
from engine.weights.decoder_weights import WeightLoader
from engine.weights.linear import Linear
from tests.parity import driver, models
from tests.patience import PATIENCE_S

GREEDY = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
EVERY_LOGPROB = SamplingParams(max_tokens=1, temperature=0, logprobs=211)
OTHER_BITS = 3
PROMPTS = ((5, 6, 7, 8, 9, 10, 11), tuple(range(40, 100)), (*range(40, 75), 3), (9,))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Its parts have widths that the compiled kernels support.
    models.CASES["llama-wide"] = (
        *models.CASES["llama-biases"][:2],
        {**models.CASES["llama-biases"][2], "intermediate_size": 128},
    )
    try:
        return models.write_model("llama-wide", tmp_path_factory.mktemp("llama"))
    finally:
        del models.CASES["llama-wide"]


def settings_of(directory: Path, **changes) -> EngineSettings:
    kv = KVSettings(memory=Bytes(2**20), block_size=16)
    return EngineSettings(**{"model": directory, "kv": kv, "tensor_parallel": 2, "prefill_chunk": 16, **changes})


@pytest.fixture(scope="module")
def runner(directory: Path) -> Iterator[TensorRunner]:
    runner = TensorRunner(settings_of(directory), lambda _: None)
    yield runner
    runner.close()


class SplitLoader(WeightLoader):
    """One rank that sums in the order of two."""

    def residual_linear(self, name: str, outputs: int, inputs: int, *, bias: bool) -> Linear:
        half = inputs // 2
        whole = self.take(f"{name}.weight", outputs, inputs)
        first, second = (
            self._linears.make(part.contiguous(), head=True) for part in (whole[:, :half], whole[:, half:])
        )
        shift = self.take(f"{name}.bias", outputs) if bias else 0.0
        return lambda x: first(x[:, :half].contiguous()) + second(x[:, half:].contiguous()) + shift


def logprobs(runner, prompt: tuple[int, ...], chunk: int) -> torch.Tensor:
    """[tokens, vocab] after each chunk."""
    sequence = driver.Sequence(list(prompt), list(range(1, 9)), EVERY_LOGPROB)
    found = []
    for end in range(chunk, len(prompt) + 1, chunk):
        sequence.tokens = list(prompt[:end])
        (entry,) = driver.step(runner, [(sequence, end - sequence.computed)]).logprobs
        assert entry is not None
        line = torch.empty(211)
        for token, logprob in entry[1]:
            line[token] = logprob
        found.append(line)
    return torch.stack(found)


def compare_to_the_bit(directory: Path) -> None:
    """Two ranks, and one that splits its sums alike. Exits with `OTHER_BITS` if they differ."""
    one = settings_of(directory, tensor_parallel=1)
    plain = TorchRunner(one, lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.torch_runner.WeightLoader", SplitLoader)
        split = TorchRunner(one, lambda _: None)
    runner = TensorRunner(settings_of(directory), lambda _: None)
    try:
        for chunk in (1, 7):
            theirs = logprobs(runner, PROMPTS[1], chunk)
            expected = logprobs(plain, PROMPTS[1], chunk)
            torch.testing.assert_close(theirs, expected, atol=5e-5, rtol=0)
            assert not torch.equal(theirs, expected)
            if not torch.equal(theirs, logprobs(split, PROMPTS[1], chunk)):
                sys.exit(OTHER_BITS)
    finally:
        runner.close()


def test_two_ranks_are_one_that_splits_its_sums_alike_to_the_bit(directory: Path) -> None:
    # In processes of its own: one that compiles a kernel inlines what it has compiled itself, and not what comes from
    # the cache, so sums may differ in the last bit where two compile at once. New processes load the same code.
    code = f"from {__name__} import *; compare_to_the_bit(Path({str(directory)!r}))"
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=PATIENCE_S
        )
        if run.returncode != OTHER_BITS:
            break
    assert run.returncode == 0, run.stderr


def answers(engine: Engine) -> list[tuple[int, ...]]:
    for number, prompt in enumerate(PROMPTS):
        engine.submit(Submit(sequence_id=number, prompt_token_ids=prompt, params=GREEDY))
    found: list[tuple[int, ...]] = [()] * len(PROMPTS)
    while engine.has_work:
        for output in engine.step().deltas:
            found[output.sequence_id] += output.token_ids
    engine.check_integrity()
    return found


def test_engines_say_the_same_until_a_rank_is_lost(directory: Path) -> None:
    alone = Engine.load(settings_of(directory, tensor_parallel=1), "one")
    heard: list[str] = []
    engine = Engine.load(settings_of(directory), "two", heard.append)
    assert "starting 1 more ranks" in heard
    assert answers(engine) == answers(alone)
    assert engine.stats().prefix_hits_total == alone.stats().prefix_hits_total
    # Half of the KV heads: twice the blocks in the same memory per rank.
    assert (engine.stats().total_blocks + 1) // 2 == alone.stats().total_blocks + 1
    (rank,) = engine._runner._others  # type: ignore[attr-defined]
    os.kill(rank._process.pid, signal.SIGKILL)
    engine.submit(Submit(sequence_id=9, prompt_token_ids=(5, 6), params=GREEDY))
    with pytest.raises(EngineDead, match=r"rank 1 \(cpu\) has ended, killed by signal 9") as caught:
        engine.step()
    assert caught.value.code == "tensor_rank_lost"
    engine.close()
    assert rank._process.returncode == -9
    alone.close()


def test_how_likely_a_prompt_is(directory: Path, runner: TensorRunner) -> None:
    """The first prompt over several steps and head products; the second one next to a decoding sequence."""
    prompt = tuple(number * 7 % 211 for number in range(100))
    params = SamplingParams(max_tokens=4, temperature=0, prompt_logprobs=2)
    said = []
    for each in (TorchRunner(settings_of(directory, tensor_parallel=1), lambda _: None), runner):
        settings = settings_of(directory, prefill_chunk=80)
        engine = Engine(each, Tokenizer.load(directory), settings, seed=0)
        engine.submit(Submit(sequence_id=1, prompt_token_ids=prompt, params=params))
        engine.submit(Submit(sequence_id=2, prompt_token_ids=prompt[:9], params=params))
        outputs = [output for _ in range(6) for output in engine.step().deltas]
        assert not engine.has_work
        said.append(
            [(score.logprob, *(value for _, value, _ in score.top)) for o in outputs for score in o.prompt_logprobs]
        )
    alone, split = (torch.tensor([line for line in lines if len(line) == 3]) for lines in said)
    assert len(alone) == len(prompt) - 1 + 8
    torch.testing.assert_close(split, alone, atol=5e-5, rtol=0)


def test_a_rank_that_is_lost_while_nothing_runs_ends_the_engine_all_the_same(directory: Path) -> None:
    engine = Engine.load(settings_of(directory), "two")
    (rank,) = engine._runner._others  # type: ignore[attr-defined]
    engine.check_runner()
    posts: list[StepReport | EngineFailed] = []
    inbox: SimpleQueue[Command | Stop] = SimpleQueue()
    inbox.put(Submit(sequence_id=1, prompt_token_ids=(5, 6), params=GREEDY))

    def post(report: StepReport | EngineFailed) -> None:
        posts.append(report)
        if isinstance(report, StepReport) and not report.stats.running:
            os.kill(rank._process.pid, signal.SIGKILL)

    # It returns although no further message is sent.
    StepLoop(engine, inbox, post).run()
    assert posts[-1] == EngineFailed(
        "tensor_rank_lost", "engine two failed between two steps: rank 1 (cpu) has ended, killed by signal 9"
    )
    assert rank._process.returncode == -9


def test_a_rank_that_hangs_breaks_the_step_and_is_ended(directory: Path) -> None:
    runner = TensorRunner(settings_of(directory, stall=Seconds(3.0)), lambda _: None)
    (rank,) = runner._others
    os.kill(rank._process.pid, signal.SIGSTOP)
    with pytest.raises(EngineError) as caught:
        driver.step(runner, [(driver.Sequence([1, 2], [1], GREEDY), 2)])
    assert caught.value.code == "tensor_parallel_failed"
    runner.close()
    assert rank._process.returncode == -signal.SIGKILL
    runner.close()
    with pytest.raises(ModelError, match="closed"):
        driver.step(runner, [(driver.Sequence([1, 2], [1], GREEDY), 2)])


def test_what_a_rank_cannot_load_is_reported_with_its_name(directory: Path) -> None:
    settings = settings_of(directory, devices=("cpu", "cuda:63"))
    with pytest.raises(ModelError, match=r'rank 1 \(cuda:63\): device = "cuda:63" cannot be used'):
        Engine.load(settings, "two")


def test_a_rank_that_ends_without_a_word(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tensor_parallel.runner.COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(EngineError, match=r"rank 1 \(cpu\) .*ended.*exit code 3"):
        TensorRunner(settings_of(directory), lambda _: None)


def test_a_model_that_cannot_be_split_starts_nobody_for_long(directory: Path) -> None:
    with pytest.raises(ModelError, match="tensor_parallel = 3 does not divide attention heads, 4"):
        TensorRunner(settings_of(directory, tensor_parallel=3), lambda _: None)


PARENT = """
import sys, msgspec, pathlib
from config.model.settings import EngineSettings
from tests.patience import PATIENCE_S
from engine.tensor_parallel.runner import TensorRunner
runner = TensorRunner(EngineSettings(model=pathlib.Path(sys.argv[1]), tensor_parallel=2), lambda _: None)
print(runner._others[0]._process.pid, flush=True)
sys.stdin.read()
"""


def test_no_rank_outlives_a_parent_that_was_killed(directory: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert _lives(pid)
        parent.kill()
    until = time.monotonic() + PATIENCE_S
    while _lives(pid):
        assert time.monotonic() < until
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_is_sent_is_what_arrives() -> None:
    import io

    from engine.frames import frame, read_frame
    from engine.tensor_parallel.wire import Setup, WorkerFailed, WorkerReply

    setup = Setup(settings_of(Path("/m"), stall=Seconds(2.5)), 1, 2, "/tmp/store")
    pipe = io.BytesIO(frame(setup) + frame(WorkerFailed("a", "b")) + frame(setup)[:-1])
    assert read_frame(pipe, Setup) == setup
    assert read_frame(pipe, WorkerReply) == WorkerFailed("a", "b")
    assert read_frame(pipe, Setup) is None
    assert read_frame(pipe, Setup) is None
    assert msgspec.structs.replace(setup, rank=2) != setup
