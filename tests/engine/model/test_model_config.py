import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ModelError
from engine.model.model_config import read_model_config
from engine.model.rope_config import Rope

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}


def read(directory: Path, **changes: Any):
    raw = {key: value for key, value in {**LLAMA, **changes}.items() if value is not ...}
    (directory / "config.json").write_text(json.dumps(raw))
    return read_model_config(directory)


def test_fills_in_what_the_file_leaves_out(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert (config.kv_heads, config.head_dim, config.windows) == (4, 16, (0, 0, 0, 0))
    assert config.rope == Rope(10_000.0)
    assert config.tied_head is None
    assert (config.qkv_bias, config.o_bias, config.mlp_bias, config.qk_norm) == (False,) * 4


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0}},
    ],
)
def test_both_spellings_of_rope_mean_the_same(tmp_path: Path, keys: dict[str, Any]) -> None:
    assert read(tmp_path, **keys).rope == Rope(5e5, "linear", 4.0)


def test_each_architecture_has_its_own_biases_and_norms(tmp_path: Path) -> None:
    qwen2 = read(tmp_path, architectures=["Qwen2ForCausalLM"], num_key_value_heads=4)
    assert (qwen2.qkv_bias, qwen2.o_bias, qwen2.qk_norm) == (True, False, False)
    qwen3 = read(tmp_path, architectures=["Qwen3ForCausalLM"], num_key_value_heads=4)
    assert (qwen3.qkv_bias, qwen3.o_bias, qwen3.qk_norm) == (False, False, True)
    llama = read(tmp_path, attention_bias=True, mlp_bias=True)
    assert (llama.qkv_bias, llama.o_bias, llama.mlp_bias) == (True, True, True)


def test_windows(tmp_path: Path) -> None:
    mistral = {"architectures": ["MistralForCausalLM"], "num_key_value_heads": 4}
    assert read(tmp_path, **mistral, sliding_window=32).windows == (32,) * 4
    assert read(tmp_path, **mistral, sliding_window=None).windows == (0,) * 4
    qwen = {**mistral, "architectures": ["Qwen2ForCausalLM"], "sliding_window": 8, "max_window_layers": 3}
    assert read(tmp_path, **qwen).windows == (0,) * 4
    assert read(tmp_path, **qwen, use_sliding_window=True).windows == (0, 0, 0, 8)
    types = ["sliding_attention", "full_attention"] * 2
    assert read(tmp_path, **qwen, use_sliding_window=True, layer_types=types).windows == (8, 0, 8, 0)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "model_unsupported", "MambaForCausalLM is not supported"),
        ({"architectures": ...}, "model_unsupported", "(none)"),
        ({"hidden_act": "gelu"}, "model_unsupported", 'hidden_act = "gelu"'),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "model_unsupported", "'dynamic'"),
        ({"rope_scaling": {"type": "linear"}}, "model_config", "needs factor"),
        ({"hidden_size": ...}, "model_config", "hidden_size: expected a positive whole number, found None"),
        ({"vocab_size": "many"}, "model_config", "vocab_size"),
        ({"num_key_value_heads": 3}, "model_config", "cannot share 3 KV heads"),
        ({"head_dim": 15}, "model_config", "15 is odd"),
        ({"mlp_bias": "yes"}, "model_config", "mlp_bias: expected true or false"),
        ({"rms_norm_eps": "small"}, "model_config", "rms_norm_eps: expected a number"),
    ],
)
def test_errors_name_the_file_and_the_key(tmp_path: Path, changes: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(tmp_path, **changes)
    assert caught.value.code == code
    assert words in caught.value.message
    assert str(tmp_path / "config.json") in caught.value.message


def test_directories_that_are_not_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        read_model_config(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="is not a model directory"):
        read_model_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        read_model_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="JSON object"):
        read_model_config(tmp_path)
