"""Every architecture on two ranks, some on four: the same greedy tokens as transformers, nearly the same numbers."""

import random
from pathlib import Path

import pytest
import torch
from msgspec import structs

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.tensor_parallel.runner import load_runner
from tests.parity import models
from tests.parity.grid import GREEDY, OUTPUTS, Cell, prompts, run
from tests.parity.test_numbers import BF16, VOCAB, teacher_forced

CELLS = [*((case, 2) for case in models.CASES), ("llama", 4), ("llama-tied-llama3", 4), ("mixtral", 4), ("phi3", 4)]


def settings_of(directory: Path, ranks: int, dtype: str) -> EngineSettings:
    kv = KVSettings(memory=Bytes(2**22))
    return EngineSettings(model=directory, dtype=dtype, kv=kv, tensor_parallel=ranks, prefill_chunk=29)


@pytest.mark.parity_full
@pytest.mark.parametrize(("case", "ranks"), CELLS)
def test_float32(case: str, ranks: int, tmp_path: Path) -> None:
    from engine.core.engine import Engine

    directory = models.write_model(case, tmp_path)
    model = models.reference(directory)
    expected = models.greedy(model, prompts(), OUTPUTS)
    engine = Engine.load(settings_of(directory, ranks, "float32"), "ranks")
    cell = Cell(29, warm=False, preempted="never", shuffled=False, drafted=False, cancelled=False)
    found = run(engine, cell, structs.replace(GREEDY, prompt_logprobs=VOCAB), {})
    assert [[token for output in outputs for token in output.token_ids] for outputs in found] == expected
    for prompt, outputs in zip(prompts(), found, strict=True):
        with torch.inference_mode():
            lines = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        for position, each in enumerate(outputs[0].prompt_logprobs[1:]):
            assert each.logprob == pytest.approx(float(lines[position, each.token_id]), abs=2e-4)
    rng = random.Random(case)
    tokens = [rng.randrange(VOCAB) for _ in range(60)]
    with torch.inference_mode():
        truth = model(torch.tensor([tokens])).logits[0, 19:].log_softmax(-1)
    torch.testing.assert_close(teacher_forced(engine._runner, tokens), truth, atol=2e-4, rtol=2e-5)
    engine.close()


@BF16
@pytest.mark.parity_full
@pytest.mark.parametrize(("case", "ranks"), CELLS)
def test_bfloat16_is_as_close_to_the_truth_as_one_rank(case: str, ranks: int, tmp_path: Path) -> None:
    """Partial sums are added in float32, so that two ranks lose no more than one does; a quarter for chance."""
    directory = models.write_model(case, tmp_path, dtype=torch.bfloat16)
    rng = random.Random(case)
    tokens = [rng.randrange(VOCAB) for _ in range(80)]
    with torch.inference_mode():
        truth = models.reference(directory, torch.float32)(torch.tensor([tokens])).logits[0, 19:].log_softmax(-1)
    errors = []
    for count in (1, ranks):
        runner = load_runner(settings_of(directory, count, "bfloat16"))
        errors.append((teacher_forced(runner, tokens) - truth).abs().mean())
        runner.close()
    assert errors[1] <= 1.25 * errors[0]
