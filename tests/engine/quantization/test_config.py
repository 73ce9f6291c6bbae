"""Quantization settings in config.json: what is read, and refusals that name the key."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ModelError
from engine.quantization.config import Quantization, Rule, quantization, read_quantization, to_config
from engine.quantization.scheme import INT8, Scheme

GROUPED = to_config(quantization(Scheme(4, 32)))


def read(folder: Path, found: Any) -> Quantization | None:
    (folder / "config.json").write_text(json.dumps({"quantization_config": found}))
    return read_quantization(folder)


@pytest.mark.parametrize("scheme", [INT8, Scheme(4, 32), Scheme(4)], ids=str)
def test_what_is_written_is_read(scheme: Scheme, tmp_path: Path) -> None:
    ours = quantization(scheme)
    assert read(tmp_path, to_config(ours)) == Quantization(ours.rules, ours.ignore, stored=True)
    assert read(tmp_path, None) is None


def test_which_scheme_a_matrix_has() -> None:
    ours = quantization(Scheme(4, 32))
    assert ours.scheme("model.layers.3.self_attn.q_proj") == Scheme(4, 32)
    assert ours.scheme("model.layers.3.mlp.gate_proj") == Scheme(4, 32)
    assert ours.scheme("model.layers.3.mlp.experts.7.gate_proj") == Scheme(4, 32)
    assert ours.scheme("lm_head") == INT8
    assert ours.scheme("model.layers.3.mlp.gate") is None
    assert ours.scheme("model.layers.3.block_sparse_moe.gate") is None
    assert str(ours) == "int8 and int4 in groups of 32"


def test_a_name_weighs_more_than_the_word_for_all() -> None:
    rules = (Rule(("Linear",), Scheme(4, 64)), Rule((r"re:.*\.down_proj",), INT8))
    found = Quantization(rules, ("lm_head", "re:.*layers.0"), stored=True)
    assert found.scheme("model.layers.1.mlp.down_proj") == INT8
    assert found.scheme("model.layers.1.mlp.up_proj") == Scheme(4, 64)
    assert found.scheme("model.layers.0.mlp.up_proj") is None
    assert found.scheme("lm_head") is None


@pytest.mark.parametrize(
    ("found", "code", "message"),
    [
        ({"quant_method": "gptq", "bits": 4}, "model_unsupported", "quant_method 'gptq' are not read"),
        ({"quant_method": "awq"}, "model_unsupported", "quant_method 'awq'"),
        ({**GROUPED, "format": "float-quantized"}, "model_unsupported", "format 'float-quantized'"),
        ({**GROUPED, "kv_cache_scheme": {"num_bits": 8}}, "model_unsupported", "kv_cache_scheme"),
        ({**GROUPED, "config_groups": {}}, "model_config", "no config_groups"),
        ({**GROUPED, "ignore": "lm_head"}, "model_config", "ignore must be a list of names"),
        ({**GROUPED, "ignore": ["re:("]}, "model_config", "is no pattern"),
        ("int4", "model_config", "must be an object"),
    ],
)
def test_foreign_ways_are_refused_by_name(found: Any, code: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read(tmp_path, found)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("symmetric", False, "has symmetric false; what is read is true"),
        ("num_bits", 3, "has num_bits 3; what is read is 4 or 8"),
        ("type", "float", 'has type "float"'),
        ("strategy", "tensor", 'has strategy "tensor"; what is read is "group" or "channel"'),
        ("actorder", "group", 'has actorder "group"'),
        ("dynamic", True, "has dynamic true"),
        ("group_size", None, "has no group_size"),
    ],
)
def test_what_a_group_may_say(key: str, value: Any, message: str, tmp_path: Path) -> None:
    groups = json.loads(json.dumps(GROUPED["config_groups"]))
    groups["group_1"]["weights"][key] = value
    with pytest.raises(ModelError, match=message):
        read(tmp_path, {**GROUPED, "config_groups": groups})


@pytest.mark.parametrize("group", [None, {}, {"weights": None, "targets": ["Linear"]}])
def test_a_group_without_weights(group: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="group_0 says nothing of weights"):
        read(tmp_path, {**GROUPED, "config_groups": {"group_0": group}})


def test_quantized_activations_are_refused(tmp_path: Path) -> None:
    groups = json.loads(json.dumps(GROUPED["config_groups"]))
    groups["group_0"]["input_activations"] = {"num_bits": 8}
    with pytest.raises(ModelError, match="quantizes input_activations"):
        read(tmp_path, {**GROUPED, "config_groups": groups})
