"""Whole models through the engine with the Triton kernels: greedy ids equal transformers'."""

import random
from pathlib import Path

import pytest
import torch

from config.model.settings import EngineSettings, GpuSettings, KVSettings
from config.model.table import Bytes
from engine.core.engine import Engine
from engine.forward.graphs import GraphDecoder
from engine.messages import Submit
from engine.sampling.params import SamplingParams
from engine.text.tokenizer import Tokenizer
from engine.torch_runner import TorchRunner
from tests.parity import models
from tests.parity.recording import Recording

pytest.importorskip("triton", reason='Triton is not installed: pip install "penstock[gpu]" (Linux only)')

OUTPUTS = 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


QUICK = ("gemma2", "phi3", "qwen3-moe")
"""What differs for these kernels: windows, caps, norms in attention, heads turned in part, experts."""
CASES = [pytest.param(case, marks=() if case in QUICK else pytest.mark.parity_full) for case in models.CASES]


def settings_of(directory: Path) -> EngineSettings:
    return EngineSettings(
        model=directory,
        device=DEVICE,
        dtype="float32",
        kv=KVSettings(memory=Bytes(2**20)),
        gpu=GpuSettings(kernels="triton"),
        prefill_chunk=24,
        max_running=2,
        max_step_tokens=64,
        max_model_len=64,
    )


def answers(engine: Engine, prompts: list[list[int]], first: int) -> list[list[int]]:
    params = SamplingParams(max_tokens=OUTPUTS, temperature=0, ignore_eos=True)
    found: list[list[int]] = [[] for _ in prompts]
    for index, prompt in enumerate(prompts):
        engine.submit(Submit(sequence_id=first + index, prompt_token_ids=tuple(prompt), params=params))
    while engine.has_work:
        for output in engine.step().deltas:
            found[output.sequence_id - first].extend(output.token_ids)
    return found


@pytest.mark.sample(1, always=["qwen3-moe"])
@pytest.mark.parametrize("case", CASES)
def test_greedy_ids_equal_transformers(case: str, tmp_path: Path) -> None:
    """Chunks, decodes and prefills in one batch, and the second time a prefix hit; windows are passed."""
    rng = random.Random(case)
    directory = models.write_model(case, tmp_path)
    prompts = [[rng.randrange(211) for _ in range(length)] for length in (41, 3)]
    expected = models.greedy(models.reference(directory), prompts, OUTPUTS)
    engine = Engine.load(settings_of(directory), "triton")
    assert answers(engine, prompts, 0) == expected
    assert answers(engine, prompts, 10) == expected
    assert engine.stats().prefix_hits_total == 32
    engine.close()


def test_the_whole_path_of_a_gpu(tmp_path: Path) -> None:
    """Replayed over static buffers, a batch of two and then of one, launched ahead, chosen and fed on the device."""
    directory = models.write_model("llama", tmp_path)
    prompts = [[7, 3, 5], [11, 2]]
    settings = settings_of(directory)
    runner = TorchRunner(settings, lambda _: None, capture=None if DEVICE == "cuda" else Recording())
    runner.overlaps = True
    engine = Engine(runner, Tokenizer.load(directory), settings)
    assert answers(engine, prompts, 0) == models.greedy(models.reference(directory), prompts, OUTPUTS)
    decoder = runner._decoder
    assert isinstance(decoder, GraphDecoder)
    assert decoder.replays == OUTPUTS - 1
    engine.close()
