"""Whole models through the engine with the Triton kernels: greedy ids equal transformers'."""

import random
from pathlib import Path

import pytest
import torch

from config.settings import EngineSettings, GpuSettings, KVSettings
from config.table import Bytes
from engine.engine import Engine
from engine.messages import Submit
from engine.params import SamplingParams
from tests.parity import models

pytest.importorskip("triton", reason='Triton is not installed: pip install "penstock[gpu]" (Linux only)')

OUTPUTS = 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


QUICK = ("llama-tied-llama3", "mistral-window", "gemma2", "qwen3", "phi3", "qwen3-moe")
"""What differs for these kernels: one KV head, windows, caps, norms in attention, heads turned in part, experts."""
CASES = [pytest.param(case, marks=() if case in QUICK else pytest.mark.parity_full) for case in models.CASES]


@pytest.mark.parametrize("case", CASES)
def test_greedy_ids_equal_transformers(case: str, tmp_path: Path) -> None:
    """Chunks, decodes and prefills in one batch, and the second time a prefix hit; windows are passed."""
    rng = random.Random(case)
    directory = models.write_model(case, tmp_path)
    prompts = [[rng.randrange(211) for _ in range(length)] for length in (41, 3)]
    model = models.reference(directory)
    expected = []
    for prompt in prompts:
        ids, margin = models.greedy(model, prompt, OUTPUTS)
        assert margin > 5e-5, "a near tie proves nothing: choose other weights"
        expected.append(ids)
    engine = Engine.load(
        EngineSettings(
            model=directory,
            device=DEVICE,
            dtype="float32",
            kv=KVSettings(memory=Bytes(2**20)),
            gpu=GpuSettings(kernels="triton"),
            prefill_chunk=24,
            max_running=2,
            max_step_tokens=64,
            max_model_len=64,
        ),
        "triton",
    )
    params = SamplingParams(max_tokens=OUTPUTS, temperature=0, ignore_eos=True)
    for turn in (0, 10):
        found: dict[int, list[int]] = {turn: [], turn + 1: []}
        for index, prompt in enumerate(prompts):
            engine.submit(Submit(request_id=turn + index, prompt_token_ids=tuple(prompt), params=params))
        while engine.has_work:
            for output in engine.step().outputs:
                found[output.request_id].extend(output.token_ids)
        assert list(found.values()) == expected
    assert engine.stats().prefix_hits_total == 32
    engine.close()
