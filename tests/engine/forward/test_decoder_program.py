"""A step as one program is bit-identical to the same kernels called one by one."""

from pathlib import Path

import pytest

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.forward import decoder_program
from engine.forward.cpu import CpuKernels
from engine.forward.decoder_program import DecoderProgram
from engine.kernels.simd import has_bfloat16_products
from engine.tensor_parallel.runner import load_runner
from engine.torch_runner import TorchRunner
from tests.parity import driver, models

TYPES = ["float32", *(["bfloat16"] if has_bfloat16_products() else [])]


def load(directory: Path, dtype: str, threads: int) -> TorchRunner:
    return load_runner(
        EngineSettings(model=directory, dtype=dtype, threads=threads, kv=KVSettings(memory=Bytes(2**22)))
    )


def answers(runner: TorchRunner) -> list[tuple[list[int], list[float]]]:
    """A prompt in chunks next to other sequences that decode."""
    prompts = [[5, 9, 2], list(range(3, 60)), list(range(40, 75))]
    sequences = [driver.Sequence(prompt, list(range(1 + 6 * i, 7 + 6 * i))) for i, prompt in enumerate(prompts)]
    driver.run(runner, sequences[:2], outputs=3, chunk=20)
    driver.run(runner, sequences, outputs=8, chunk=11)
    return [(sequence.tokens, sequence.margins) for sequence in sequences]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of every step that ran as a program."""
    ran: list[int] = []
    run = DecoderProgram._run

    def told(self: DecoderProgram, rows: int, kernels: int) -> None:
        ran.append(rows)
        run(self, rows, kernels)

    monkeypatch.setattr(DecoderProgram, "_run", told)
    return ran


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("case", ["llama", "llama-biases", "qwen3", "phi3"])
def test_a_program_changes_no_bit(
    case: str, dtype: str, tmp_path: Path, programs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = models.write_model(case, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(CpuKernels, "_program_of", lambda _self, _weights: None)
        wanted = answers(load(directory, dtype, 1))
    assert not programs
    assert answers(load(directory, dtype, 1)) == wanted
    monkeypatch.setattr(decoder_program, "_TEAM_THRESHOLD", 0)
    assert answers(load(directory, dtype, 2)) == wanted
    assert len(programs) > 20
    assert max(programs) > 20


@pytest.mark.parametrize("case", ["gemma2", "mixtral"])
def test_what_is_no_row_of_kernels_runs_one_by_one(case: str, tmp_path: Path, programs: list[int]) -> None:
    answers(load(models.write_model(case, tmp_path), "float32", 1))
    assert not programs


def test_buffers_that_grow_get_a_new_program(tmp_path: Path, programs: list[int]) -> None:
    directory = models.write_model("llama", tmp_path)
    small = load_runner(EngineSettings(model=directory, max_step_tokens=8, kv=KVSettings(memory=Bytes(2**22))))
    assert answers(small) == answers(load(directory, "auto", 1))
    assert max(programs) > 8
