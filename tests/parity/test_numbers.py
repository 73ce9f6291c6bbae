"""Numbers beyond greedy ids: log-probabilities of outputs and prompts, and rows that do not depend on their company."""

import random
from pathlib import Path

import pytest
import torch

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.core.engine import Engine
from engine.kernels.simd import has_bfloat16_products
from engine.messages import Submit
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Runner
from engine.tensor_parallel.runner import load_runner
from engine.text.tokenizer import Tokenizer
from tests.parity import driver, models

VOCAB = 211
EVERY_LOGPROB = SamplingParams(max_tokens=1, temperature=0, logprobs=VOCAB)
BF16 = pytest.mark.skipif(not has_bfloat16_products(), reason="this processor does not compute in bfloat16")


def load(directory: Path, dtype: str, paged: str = "auto") -> Runner:
    kv = KVSettings(memory=Bytes(2**22), dtype=paged)
    return load_runner(EngineSettings(model=directory, dtype=dtype, kv=kv))


def teacher_forced(runner: Runner, tokens: list[int]) -> torch.Tensor:
    """Log-probabilities [len(tokens), vocab] after each token, one token a step after a first chunk."""
    sequence = driver.Sequence(tokens[:20], list(range(1, 11)), EVERY_LOGPROB)
    found = []
    for end in range(20, len(tokens) + 1):
        sequence.tokens = tokens[:end]
        (entry,) = driver.step(runner, [(sequence, end - sequence.computed)]).logprobs
        assert entry is not None
        line = torch.full((VOCAB,), float("nan"))
        for token, logprob in entry[1]:
            line[token] = logprob
        found.append(line)
    return torch.stack(found)


@pytest.mark.sample(7)
@pytest.mark.parametrize("case", models.CASES)
def test_float32_is_close_in_every_logprob(case: str, tmp_path: Path) -> None:
    directory = models.write_model(case, tmp_path)
    rng = random.Random(case)
    tokens = [rng.randrange(VOCAB) for _ in range(60)]
    with torch.inference_mode():
        truth = models.reference(directory)(torch.tensor([tokens])).logits[0, 19:].log_softmax(-1)
    runner = load(directory, "float32")
    torch.testing.assert_close(teacher_forced(runner, tokens), truth, atol=2e-4, rtol=2e-5)
    # What is said of a prompt is the same table.
    engine = Engine(runner, Tokenizer.load(directory), EngineSettings(model=directory, prefill_chunk=25))
    params = SamplingParams(max_tokens=1, prompt_logprobs=VOCAB, prompt_only=True)
    engine.submit(Submit(sequence_id=0, prompt_token_ids=tuple(tokens), params=params))
    said = [each for _ in range(3) for output in engine.step().deltas for each in output.prompt_logprobs]
    assert [each.token_id for each in said] == tokens
    for position, each in enumerate(said[20:], 19):
        line = truth[position - 19]
        assert each.logprob == pytest.approx(float(line[each.token_id]), abs=1e-4)
        assert each.rank == int((line > line[each.token_id]).sum()) + 1
        ids, values = [token for token, _, _ in each.top], torch.tensor([value for _, value, _ in each.top])
        torch.testing.assert_close(values, line[ids], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_files_in_half_precision_are_what_they_say(kind: torch.dtype, tmp_path: Path) -> None:
    directory = models.write_model("qwen3", tmp_path, dtype=kind)
    tokens = [number * 7 % VOCAB for number in range(40)]
    with torch.inference_mode():
        truth = models.reference(directory)(torch.tensor([tokens])).logits[0, 19:].log_softmax(-1)
    torch.testing.assert_close(teacher_forced(load(directory, "float32"), tokens), truth, atol=2e-4, rtol=2e-5)


@BF16
@pytest.mark.sample(7)
@pytest.mark.parametrize("case", models.CASES)
def test_int8_pages_are_close_in_every_logprob(case: str, tmp_path: Path) -> None:
    """Rounding the pages alone is about what rounding every product to bfloat16 is, or less."""
    directory = models.write_model(case, tmp_path)
    rng = random.Random(case)
    tokens = [rng.randrange(VOCAB) for _ in range(60)]
    exact, rounded, half = (
        teacher_forced(load(directory, dtype, paged), tokens)
        for dtype, paged in (("float32", "float32"), ("float32", "int8"), ("bfloat16", "bfloat16"))
    )
    assert 0 < (rounded - exact).abs().mean() < 2 * (half - exact).abs().mean()


COMPANY = [
    ("float32", "auto"),
    ("float32", "int8"),
    pytest.param("bfloat16", "auto", marks=BF16),
    pytest.param("bfloat16", "int8", marks=BF16),
]


@pytest.mark.parametrize(("dtype", "paged"), COMPANY)
@pytest.mark.parametrize("case", ["llama-tied-llama3", "mistral-window", "qwen3"])
def test_a_sequence_is_the_same_to_the_last_bit_in_any_company(
    case: str, dtype: str, paged: str, tmp_path: Path
) -> None:
    runner = load(models.write_model(case, tmp_path, dtype=getattr(torch, dtype)), dtype, paged)
    rng = random.Random(7)
    prompts = [[rng.randrange(VOCAB) for _ in range(length)] for length in (1, 30, 77, 16, 5, 51)]
    params = SamplingParams(max_tokens=1, temperature=0.8, top_p=0.95)
    alone = []
    for index, prompt in enumerate(prompts):
        sequence = driver.Sequence(prompt, list(range(1, 8)), params, seed=index)
        driver.run(runner, [sequence], 24, 1000)
        alone.append((sequence.output, sequence.margins))
    for chunk in (1, 9, 1000):
        together = [
            driver.Sequence(prompt, list(range(1 + 7 * index, 8 + 7 * index)), params, seed=index)
            for index, prompt in enumerate(prompts)
        ]
        driver.run(runner, together, 24, chunk)
        assert [(sequence.output, sequence.margins) for sequence in together] == alone
