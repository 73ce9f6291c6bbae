"""The training module: transformers' numerics, and a reproducible, decreasing loss."""

from pathlib import Path

import msgspec
import pytest
import torch

from engine.zoo.corpus import Mix
from engine.zoo.llama import Llama, LlamaShape, save
from engine.zoo.recipe import RECIPES, Lesson, Recipe, Stage
from engine.zoo.tokenizer import VOCABULARY, train_tokenizer
from engine.zoo.train import TrainingProgress, grown, train_model
from tests.engine.zoo.saved import load

TINY = LlamaShape(32, 64, 2, 2, 1, 16, VOCABULARY)


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


TOKENIZER = train_tokenizer()


def _stage(steps: int, *, level_steps: int = 0, layers: int = 2, seed: int = 1) -> Stage:
    mix = Mix({"arithmetic": 4, "lookups": 1}, recitals=0.2, bare=0.5, passages=0.2)
    return Stage(
        lessons=(Lesson(steps // 2, mix, 1, 1), Lesson(steps - steps // 2, mix)),
        seed=seed,
        layers=layers,
        matrix_rate=2e-3,
        vector_rate=2e-2,
        level_steps=level_steps,
        tokens_a_step=512,
        warmup_steps=5,
    )


def _train(*stages: Stage) -> tuple[list[TrainingProgress], Llama]:
    shape = msgspec.structs.replace(TINY, num_hidden_layers=stages[-1].layers)
    reports: list[TrainingProgress] = []
    return reports, train_model("tiny", Recipe(shape, stages), TOKENIZER, reports.append)


def _equal(one: Llama, other: Llama) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_twenty_steps_reduce_the_loss_and_are_repeatable() -> None:
    reports, model = _train(_stage(20))
    assert [report.step for report in reports] == [1, 20]
    assert reports[1].loss < 0.8 * reports[0].loss
    assert "step 20/20" in str(reports[1])
    assert _equal(_train(_stage(20))[1], model)
    assert not _equal(_train(_stage(20, seed=2))[1], model)


def test_a_second_stage_goes_on_from_the_saved_weights_of_the_first(tmp_path: Path) -> None:
    first, second = _stage(4), _stage(4, layers=3, seed=5)
    _, whole = _train(first, second)
    save(_train(first)[1], tmp_path, bos=1, eos=2, pad=0)
    recipe = Recipe(whole.shape, (first, second))
    assert _equal(train_model("tiny", recipe, TOKENIZER, lambda _: None, begin=load(tmp_path)), whole)


def test_a_stage_may_keep_a_part_of_what_was_before() -> None:
    (_, before), (_, after) = _train(_stage(4)), _train(_stage(4), _stage(4, seed=5))
    _, mixed = _train(_stage(4), msgspec.structs.replace(_stage(4, seed=5), kept=0.25))
    for name, value in mixed.state_dict().items():
        expected = 0.25 * before.state_dict()[name] + 0.75 * after.state_dict()[name]
        torch.testing.assert_close(value, expected, rtol=0.01, atol=1e-4)


def test_new_layers_change_nothing_at_first() -> None:
    _, model = _train(_stage(4))
    taller = grown(model, msgspec.structs.replace(TINY, num_hidden_layers=5), seed=3)
    tokens = torch.randint(VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(taller(tokens), model(tokens), rtol=0, atol=0)
    assert len(taller.model.layers) == 5


@pytest.mark.parametrize("level_steps", [0, 600])
def test_the_rate_warms_up_and_falls(level_steps: int) -> None:
    stage = msgspec.structs.replace(_stage(1000, level_steps=level_steps), warmup_steps=50)
    rates = [stage.rate(step) for step in range(1000)]
    assert rates[0] < rates[20] < max(rates) <= 1
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert 0 < rates[-1] < 0.02
    assert (rates[500] == 1) == bool(level_steps)


@pytest.mark.parametrize("name", RECIPES)
def test_the_lessons_of_a_recipe(name: str) -> None:
    first, *rest = RECIPES[name].stages
    levels = [first.lesson(step).hardest for step in range(first.steps)]
    assert levels == sorted(levels)
    assert set(levels) == {1, 2, 3}
    for stage in rest:
        assert stage.lesson(stage.steps - 1).hardest_lookups == 3
        assert stage.level_steps < stage.steps
    assert rest[0].lesson(0).mix.recitals > 0.5
    assert rest[-1].layers == RECIPES[name].shape.num_hidden_layers
    with pytest.raises(IndexError, match="steps"):
        first.lesson(first.steps)
