"""A model's generation_config.json: what is read, and when it applies."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.core.engine import Engine
from engine.errors import ModelError
from engine.sampling.defaults import SamplingDefaults, read_defaults
from engine.sampling.params import SamplingParams
from engine.testing.fake_runner import FakeRunner
from engine.zoo.train import MODELS
from tests.engine import tiny_tokenizers
from tests.engine.driving import engine_settings, submit

NAMES = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
ALL: dict[str, Any] = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1}


def read(directory: Path, **keys: Any) -> SamplingDefaults:
    (directory / "generation_config.json").write_text(json.dumps(keys))
    return read_defaults(directory)


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        ({}, {}),
        (ALL, ALL),
        ({**ALL, "do_sample": True}, ALL),
        ({**ALL, "do_sample": False}, {**ALL, "temperature": 0.0}),
        ({"do_sample": False}, {"temperature": 0.0}),
        ({"do_sample": None, "temperature": None}, {}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_k": 50.0, "temperature": 1}, {"top_k": 50, "temperature": 1.0}),
        ({"max_new_tokens": 2048}, {"max_new_tokens": 2048}),
        ({"eos_token_id": 3, "transformers_version": "5", "typical_p": 1.0, "num_beams": 1}, {}),
        ({"typical_p": 0.9, "num_beams": 4}, {"unsupported": ("typical_p", "num_beams")}),
    ],
)
def test_what_is_read(tmp_path: Path, keys: dict[str, Any], values: dict[str, Any]) -> None:
    assert read(tmp_path, **keys) == SamplingDefaults(**values)


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_defaults(tmp_path) == SamplingDefaults()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1), ("temperature", "hot"), ("temperature", True), ("top_p", 0), ("top_p", 1.1),
        ("top_k", -2), ("top_k", 1.5), ("min_p", 2), ("repetition_penalty", 0), ("max_new_tokens", 0),
        ("do_sample", "no"),
    ],
)  # fmt: skip
def test_nonsense_is_named(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ModelError, match=rf"generation_config\.json: {name} is"):
        read(tmp_path, **{name: value})


@pytest.mark.parametrize("name", NAMES)
def test_what_a_request_says_holds(name: str) -> None:
    defaults = SamplingDefaults(**ALL)
    said = SamplingParams(max_tokens=5, left_out=tuple(each for each in NAMES if each != name))
    filled = defaults.fill(said)
    assert getattr(filled, name) == getattr(SamplingParams(max_tokens=5), name)
    assert {each: getattr(filled, each) for each in NAMES if each != name} == {
        each: value for each, value in ALL.items() if each != name
    }
    assert SamplingDefaults().fill(said) is said


def test_an_engine_samples_by_them() -> None:
    drawn: list[SamplingParams] = []

    def script(row: Any) -> None:
        drawn.append(row.params)

    engine = Engine(
        FakeRunner(script=script),
        tiny_tokenizers.byte_level_tokenizer(),
        engine_settings(),
        defaults=SamplingDefaults(temperature=0.0, top_k=7, max_new_tokens=9),
    )
    assert engine.limits.default_output_tokens == 9
    for number, left_out in enumerate(((), ("temperature", "top_k"), ("top_k",))):
        engine.submit(submit(number, [1, 2], max_tokens=1, temperature=0.9, left_out=left_out))
        while engine.has_work:
            engine.step()
    assert [(each.temperature, each.top_k) for each in drawn] == [(0.9, 0), (0.0, 7), (0.9, 7)]


@pytest.mark.parametrize("size", ["small", "large"])
def test_the_embedded_models_want_to_be_greedy(size: str) -> None:
    assert read_defaults(MODELS / size) == SamplingDefaults(temperature=0.0)
