"""The shipped models: complete, small, one tokenizer, and with the promised accuracy in the engine."""

import json
from random import Random

import pytest
import torch

from engine.offline import OfflineAnswer
from engine.zoo.evaluate import ask, evaluate_zoo, make_report
from engine.zoo.question import ZooQuestion
from engine.zoo.recipe import RECIPES
from engine.zoo.smalltalk import SMALLTALK
from engine.zoo.tasks import held_out_questions
from engine.zoo.train import MODELS
from tests.engine.zoo.saved import load

FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize("name", RECIPES)
def test_a_model_is_complete_and_has_the_recipe_s_shape(name: str) -> None:
    assert sorted(path.name for path in (MODELS / name).iterdir()) == sorted(FILES)
    assert load(MODELS / name).shape == RECIPES[name].shape


def test_together_they_stay_far_below_60_mb() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 20e6


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_they_share_one_tokenizer(file: str) -> None:
    assert (MODELS / "small" / file).read_bytes() == (MODELS / "large" / file).read_bytes()


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_logits_equal_those_of_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokens = torch.randint(RECIPES[name].shape.vocab_size, (1, 64), generator=torch.Generator().manual_seed(1))
    reference = transformers.LlamaForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(load(MODELS / name)(tokens), reference(tokens).logits, rtol=1e-3, atol=1e-3)


def test_the_special_tokens_are_named_alike_everywhere() -> None:
    config = json.loads((MODELS / "small" / "config.json").read_text())
    generation = json.loads((MODELS / "small" / "generation_config.json").read_text())
    added = {
        t["content"]: t["id"] for t in json.loads((MODELS / "small" / "tokenizer.json").read_text())["added_tokens"]
    }
    assert generation["eos_token_id"] == [config["eos_token_id"]] == [added["<|end|>"]]
    assert config["bos_token_id"] == added["<|bos|>"]


def test_a_sample_is_answered_as_well_as_promised() -> None:
    report = evaluate_zoo(MODELS, 240, 11, lambda _: None)
    total = next(row for row in report.rows if row.task == "all" and not row.difficulty)
    assert 0.45 < total.small.share < 0.9
    assert total.gap > 0.04


def test_greetings_are_answered() -> None:
    questions = [ZooQuestion("talk", "talk", prompt, answer, 1, prompt) for prompt, answer in SMALLTALK]
    answers = ask(MODELS / "large", questions, lambda _: None)
    right = sum(answer.text == question.answer for answer, question in zip(answers, questions, strict=True))
    assert right >= len(questions) - 2


def test_the_table_counts_every_question_once_a_task_and_once_in_all() -> None:
    questions = held_out_questions(Random(2), 80)
    small = [OfflineAnswer(question.answer if i % 2 else "", (1.0, 2.0)) for i, question in enumerate(questions)]
    large = [OfflineAnswer(question.answer, (5.0,) * 3) for question in questions]
    report = make_report(questions, small, large, seed=2)
    levels = [row for row in report.rows if row.difficulty and row.task != "all"]
    assert sum(row.small.asked for row in levels) == 80
    total = report.rows[-1]
    assert (total.task, total.small.right, total.large.right) == ("all", 40, 80)
    assert total.gap == pytest.approx(0.5)
    assert (total.small.tokens, total.large.tokens) == (2, 3)
    table = report.table()
    assert all(task in table for task in ("arithmetic", "strings", "lookups", "json"))
