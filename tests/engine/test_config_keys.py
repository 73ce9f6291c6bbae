"""The table of keys is whole: transformers' config classes know none that it has not."""

import warnings

import pytest

from engine.model.config_keys import KEYS
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
"""Keys that older files have, or that another family acts upon: each family has a word on them."""


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


@pytest.mark.parametrize("family", KEYS)
def test_no_key_has_two_fates(family: str) -> None:
    keys = KEYS[family]
    assert not keys.used & keys.harmless
    assert not keys.used & keys.only.keys()
    assert not keys.harmless & keys.only.keys()
