"""Offline generation: answers in order, one margin per token, measured costs."""

import pytest

from config.model.settings import EngineSettings
from engine.errors import ModelError
from engine.offline import generate_offline
from engine.zoo.train import MODELS

PROMPTS = ["What is 2 + 3?", 'Repeat "bado".', "What is 4 + 4?"]


def test_answers_come_in_the_order_of_the_prompts() -> None:
    said: list[str] = []
    found = generate_offline("small", EngineSettings(model=MODELS / "small"), PROMPTS, 20, said.append)
    assert [answer.text for answer in found.answers] == ["5", "bado", "8"]
    assert [answer.tokens for answer in found.answers] == [2, 5, 2], "the end of the answer is a token, too"
    assert all(margin >= 0 for answer in found.answers for margin in answer.margins)
    assert found.step_s > 0
    assert found.processor_s > 0
    assert said == ["small: 3/3 prompts"]


def test_a_prompt_that_is_too_long_is_named() -> None:
    with pytest.raises(ModelError, match="prompt 2 cannot be asked of 'small'"):
        generate_offline("small", EngineSettings(model=MODELS / "small"), ["hi", "x " * 5000], 20, lambda _: None)
