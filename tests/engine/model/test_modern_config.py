"""ModernBERT's configuration in the forms that published files have, and what is refused."""

import json
from pathlib import Path

import pytest

from engine.errors import ModelError
from engine.model.encoder_config import read_encoder_config
from engine.model.modern_config import ModernConfig

PUBLISHED = {
    "architectures": ["ModernBertForMaskedLM"],
    "attention_bias": False,
    "classifier_activation": "gelu",
    "classifier_bias": False,
    "classifier_pooling": "mean",
    "decoder_bias": True,
    "deterministic_flash_attn": False,
    "embedding_dropout": 0.0,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "hidden_activation": "gelu",
    "hidden_size": 768,
    "intermediate_size": 1152,
    "layer_norm_eps": 1e-05,
    "local_attention": 128,
    "local_rope_theta": 10000.0,
    "max_position_embeddings": 8192,
    "model_type": "modernbert",
    "norm_bias": False,
    "norm_eps": 1e-05,
    "num_attention_heads": 12,
    "num_hidden_layers": 7,
    "position_embedding_type": "absolute",
    "reference_compile": None,
    "sparse_prediction": False,
    "vocab_size": 50368,
}
NEW_ROPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 5000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
}
NEW_TYPES = ["sliding_attention", "full_attention"] * 3 + ["full_attention"]


def read(directory: Path, **changes: object) -> ModernConfig:
    (directory / "config.json").write_text(json.dumps({**PUBLISHED, **changes}))
    config = read_encoder_config(directory)
    assert isinstance(config, ModernConfig)
    return config


def test_older_files_name_every_nth_layer_and_two_thetas(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert config.reach == (None, 64, 64, None, 64, 64, None)
    assert config.thetas == (160_000.0, 10_000.0, 10_000.0, 160_000.0, 10_000.0, 10_000.0, 160_000.0)
    assert (config.max_tokens, config.sizes.whole, config.classifier_pooling) == (8192, 768, "mean")


def test_newer_files_list_the_layers_and_their_ropes(tmp_path: Path) -> None:
    config = read(tmp_path, layer_types=NEW_TYPES, rope_parameters=NEW_ROPE, local_attention=9)
    assert config.reach == (4, None, 4, None, 4, None, None)
    assert config.thetas[:2] == (700.0, 5000.0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_attention_heads": 7}, "num_attention_heads"),
        ({"hidden_activation": "tanh"}, "hidden_activation"),
        ({"classifier_pooling": "max"}, "classifier_pooling"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_parameters.full_attention.rope_type"),
        ({"rope_parameters": {"full_attention": 5}}, "rope_parameters"),
        ({"global_rope_theta": 0}, "global_rope_theta"),
        ({"rope_scaling": {"factor": 2}}, "rope_scaling"),
    ],
)
def test_what_is_refused_is_named(changes: dict[str, object], named: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=named):
        read(tmp_path, **changes)
