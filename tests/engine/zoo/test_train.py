"""The training module: transformers' numbers, and a loss that falls the same way every time."""

from pathlib import Path

import msgspec
import pytest
import torch

from engine.zoo.llama import Llama, Shape, load, save
from engine.zoo.recipe import RECIPES, Recipe
from engine.zoo.tokenizer import VOCABULARY, train_tokenizer
from engine.zoo.train import Progress, train_model

TINY = Shape(32, 64, 2, 2, 1, 16, VOCABULARY)


def _saved(folder: Path) -> Llama:
    torch.manual_seed(3)
    model = Llama(TINY)
    save(model, folder, bos=1, eos=2, pad=0)
    return model


def test_a_saved_model_loads_as_bf16(tmp_path: Path) -> None:
    model, loaded = _saved(tmp_path), load(tmp_path)
    assert loaded.shape == model.shape
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value.bfloat16().float(), rtol=0, atol=0)


def test_logits_equal_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    _saved(tmp_path)
    tokens = torch.randint(VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(1))
    reference = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(load(tmp_path)(tokens), reference(tokens).logits, rtol=1e-4, atol=1e-4)


def _train(seed: int) -> tuple[list[Progress], Llama]:
    recipe = Recipe(TINY, steps=20, seed=seed, tokens_a_step=512, warmup_steps=5, vector_rate=2e-2)
    reports: list[Progress] = []
    return reports, train_model("tiny", recipe, train_tokenizer(), reports.append)


def test_twenty_steps_reduce_the_loss_and_are_repeatable() -> None:
    reports, model = _train(1)
    assert [report.step for report in reports] == [1, 20]
    assert reports[1].loss < 0.8 * reports[0].loss
    assert "step 20/20" in str(reports[1])
    again = _train(1)[1]
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_rate_warms_up_and_falls() -> None:
    recipe = msgspec.structs.replace(RECIPES["small"], steps=1000, warmup_steps=50)
    rates = [recipe.rate(step) for step in range(1000)]
    assert rates[0] < rates[20] < max(rates) <= 1
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert 0 < rates[-1] < 0.02


def test_hard_questions_come_last() -> None:
    levels = [RECIPES["large"].hardest(step) for step in range(RECIPES["large"].steps)]
    assert levels == sorted(levels)
    assert set(levels) == {1, 2, 3}
