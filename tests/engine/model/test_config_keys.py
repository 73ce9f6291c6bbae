"""The table of keys is complete: it covers all keys of transformers' config classes."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from engine.model.config_keys import KEYS, check_keys
from engine.model.encoder_config import ENCODERS
from engine.model.model_config import ARCHITECTURES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers
    from transformers import PreTrainedConfig

CLASSES = {name: family for name, family in {**ARCHITECTURES, **ENCODERS}.items() if "MaskedLM" not in name}
OLD_SPELLINGS = {
    "rope_theta", "rope_scaling", "partial_rotary_factor", "rope_local_base_freq",
    "torch_dtype", "layer_types", "position_embedding_type", "pruned_heads", "is_decoder",
    "add_cross_attention", "tie_encoder_decoder", "cross_attention_hidden_size", "use_bidirectional_attention",
    "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "head_dim",
}  # fmt: skip
"""Keys of older files, or used by another family only: every family must list them."""


def known_to_transformers(architecture: str) -> set[str]:
    config = getattr(transformers, architecture).config_class
    fields = {name for each in config.__mro__ for name in getattr(each, "__annotations__", {})}
    plain = {name for name in fields if hasattr(config(), name) and not callable(getattr(config(), name))}
    class_only = {name for name in plain if name in vars(PreTrainedConfig) and name not in PreTrainedConfig().to_dict()}
    return (set(config().to_dict()) | plain | set(config.attribute_map)) - class_only


@pytest.mark.parametrize("architecture", CLASSES)
def test_every_key_is_acted_upon_or_harmless_or_refused(architecture: str) -> None:
    keys = KEYS[CLASSES[architecture]]
    known = known_to_transformers(architecture)
    assert {"vocab_size", "hidden_size", "initializer_range"} <= known
    told = keys.used | keys.harmless | keys.only.keys()
    assert sorted(known - told) == []
    encoder = architecture in ENCODERS
    assert encoder or sorted(OLD_SPELLINGS - told) == []


FOUND: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"dtype": "q4"}}),
    ("llama", {"pretraining_tp": 1, "max_sequence_length": 2048, "unsloth_version": "2025.1", "torchscript": False}),
    ("llama", {"temperature": 0.7, "do_sample": True, "bad_words_ids": None, "task_specific_params": None}),
    ("qwen2", {"use_mrope": False, "max_window_layers": 28, "sliding_window": 131072, "use_sliding_window": False}),
    ("qwen3_moe", {"max_window_layers": 48, "router_aux_loss_coef": 0.001, "output_router_logits": False}),
    ("gemma2", {"cache_implementation": "hybrid", "hidden_act": "gelu_pytorch_tanh", "sliding_window_size": 4096}),
    ("gemma3", {"attn_logit_softcapping": None, "sliding_window_pattern": 6, "cache_implementation": "hybrid"}),
    ("phi3", {"full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False, "attention_bias": False}),
    ("phi3", {"auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}, "embd_pdrop": 0.0, "mlp_bias": False}),
    ("mixtral", {"router_jitter_noise": 0.0, "output_router_logits": False, "num_local_experts": 8}),
    ("bert", {"directionality": "bidi", "pooler_type": "first_token_transform", "gradient_checkpointing": False}),
    ("roberta", {"output_past": True, "position_embedding_type": "absolute", "classifier_dropout": None}),
]


@pytest.mark.parametrize(("family", "raw"), FOUND)
def test_keys_that_published_files_have_are_no_fault(family: str, raw: dict[str, Any]) -> None:
    check_keys(Path("config.json"), raw, family, ())


@pytest.mark.parametrize("family", KEYS)
def test_no_key_has_two_fates(family: str) -> None:
    keys = KEYS[family]
    assert not keys.used & keys.harmless
    assert not keys.used & keys.only.keys()
    assert not keys.harmless & keys.only.keys()
