"""Which keys of a config.json are used, which have no effect, and which are refused.

A key that changes what the model computes must be used or refused: ignoring it silently would give wrong results that
look plausible. `tests/engine/model/test_config_keys.py` compares the table with transformers' config classes.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import ModelError


class Keys(msgspec.Struct, frozen=True):
    """The keys of one model family."""

    used: frozenset[str]
    only: Mapping[str, tuple[object, ...]]
    """Unsupported keys, with the values under which they have no effect; null never has one."""
    harmless: frozenset[str]


_BOOKKEEPING = frozenset({
    "_name_or_path", "name_or_path", "_commit_hash", "architectures", "auto_map", "custom_pipelines", "dtype",
    "license", "model_type", "processor_class", "tokenizer_class", "torch_dtype", "transformers_version",
    "unsloth_fixed", "unsloth_version", "is_llama_config", "gradient_checkpointing", "trust_remote_code",
    "sentence_transformers", "adapter_name", "finetuning_task", "task_specific_params", "problem_type", "id2label",
    "label2id", "num_labels", "prefix", "training", "pretraining_tp", "use_unsloth", "transformers.js_config",
})  # fmt: skip
"""Origin of the model, and notes of tools."""
_RUNTIME = frozenset({
    "use_cache", "return_dict", "output_attentions", "output_hidden_states", "output_router_logits", "torchscript",
    "use_bfloat16", "tf_legacy_loss", "_attn_implementation", "attn_implementation", "_attn_implementation_autoset",
    "_flash_attn_2_enabled", "use_flash_attn", "use_flash_attention", "use_sdpa", "_experts_implementation",
    "cache_implementation", "chunk_size_feed_forward", "output_past", "max_sequence_length", "model_max_length",
    "seq_length", "n_ctx", "is_decoder",
})  # fmt: skip
"""How transformers runs the model, without effect on the result."""
_TRAINING = frozenset({
    "initializer_range", "init_std", "attention_dropout", "hidden_dropout", "hidden_dropout_prob", "resid_pdrop",
    "embd_pdrop", "attn_pdrop", "attention_probs_dropout_prob", "classifier_dropout", "router_aux_loss_coef",
    "router_jitter_noise", "router_z_loss_coef", "embed_dropout", "ffn_dropout", "residual_dropout",
    "neftune_noise_alpha", "label_smoothing",
})  # fmt: skip
"""Used in training only."""
_SAMPLING = frozenset({
    "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff",
    "repetition_penalty", "length_penalty", "diversity_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "min_length", "max_length", "max_new_tokens", "early_stopping", "num_beams",
    "num_beam_groups", "num_return_sequences", "bad_words_ids", "begin_suppress_tokens", "suppress_tokens",
    "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "output_scores",
    "return_dict_in_generate", "remove_invalid_values", "renormalize_logits",
})  # fmt: skip
"""Generation defaults in older files; today they are in generation_config.json."""
_TOKENS = frozenset({
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "unk_token_id", "mask_token_id",
    "decoder_start_token_id", "bos_token", "eos_token", "pad_token",
})  # fmt: skip
"""Special token ids; the end tokens are read by the tokenizer."""
_HARMLESS = _BOOKKEEPING | _RUNTIME | _TRAINING | _SAMPLING | _TOKENS

_NEVER: Mapping[str, tuple[object, ...]] = {
    "add_cross_attention": (False,), "cross_attention_hidden_size": (), "is_encoder_decoder": (False,),
    "pruned_heads": ({},), "tie_encoder_decoder": (False,), "quantization": (), "compression_config": (),
    "sparsity_config": (), "text_config": (), "vision_config": (), "audio_config": (),
    "use_bidirectional_attention": (False,),
}  # fmt: skip
"""Supported in no family."""
_DECODER = frozenset({
    "hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers",
    "num_key_value_heads", "quantization_config", "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta",
    "tie_word_embeddings", "vocab_size", "head_dim", "layer_types", "sliding_window", "partial_rotary_factor",
    "original_max_position_embeddings", "matryoshka_dimensions", "is_matryoshka", "classifier_from_token",
    "sbert_ce_default_activation_function",
})  # fmt: skip
_NOT_IN_DECODERS: Mapping[str, tuple[object, ...]] = {
    **_NEVER, "attention_bias": (False,), "mlp_bias": (False,), "qkv_bias": (False,), "bias": (False,),
    "use_sliding_window": (False,), "attn_logit_softcapping": (), "final_logit_softcapping": (),
    "query_pre_attn_scalar": (), "rope_local_base_freq": (), "logit_scale": (1,), "logits_scaling": (1,),
    "embedding_multiplier": (1,), "residual_multiplier": (1,), "attention_multiplier": (), "clip_qkv": (),
    "qk_layernorm": (False,), "use_qk_norm": (False,), "use_mrope": (False,), "rope_interleaved": (False,),
    "no_rope_layers": ([],), "dual_chunk_attention_config": (), "num_nextn_predict_layers": (0,),
    "position_embedding_type": ("rope", "rotary"),
    "full_attn_mod": (1,), "interpolate_factor": (1,), "lm_head_bias": (False,),
}  # fmt: skip
_GEMMA = frozenset({
    "hidden_activation", "attention_bias", "query_pre_attn_scalar", "final_logit_softcapping",
    "attn_logit_softcapping",
})  # fmt: skip
_ENCODER = frozenset({
    "hidden_act", "hidden_size", "intermediate_size", "layer_norm_eps", "max_position_embeddings",
    "num_attention_heads", "num_hidden_layers", "pad_token_id", "position_embedding_type", "type_vocab_size",
    "vocab_size", "is_decoder", "matryoshka_dimensions", "is_matryoshka", "quantization_config", "id2label",
    "num_labels", "problem_type", "sentence_transformers", "sbert_ce_default_activation_function",
})  # fmt: skip


def _keys(used: Collection[str], only: Mapping[str, tuple[object, ...]], harmless: Collection[str] = ()) -> Keys:
    acted = frozenset(used)
    return Keys(
        acted,
        {key: values for key, values in only.items() if key not in acted},
        (_HARMLESS | frozenset(harmless)) - acted,
    )


def _decoder(*more: str, harmless: Collection[str] = (), only: Mapping[str, tuple[object, ...]] | None = None) -> Keys:
    return _keys(_DECODER | frozenset(more), {**_NOT_IN_DECODERS, **(only or {})}, harmless)


_BERT = _keys(
    _ENCODER,
    {**_NEVER, "embedding_size": (), "rope_theta": (), "rope_scaling": (), "rope_parameters": ()},
    # The keys of the pooler, which embeddings do not use, and the tying of the embedding with the language model head.
    ("directionality", "tie_word_embeddings", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
     "pooler_size_per_head", "pooler_type", "pooler_act", "pooler_dropout"),
)  # fmt: skip

_MODERN = _keys(
    {
        "attention_bias", "classifier_activation", "classifier_bias", "classifier_pooling",
        "global_attn_every_n_layers", "global_rope_theta", "hidden_activation", "hidden_size", "id2label",
        "intermediate_size", "is_matryoshka",
        "layer_types", "local_attention", "local_rope_theta", "matryoshka_dimensions", "max_position_embeddings",
        "mlp_bias", "norm_bias", "norm_eps", "num_attention_heads", "num_hidden_layers", "num_labels", "problem_type",
        "quantization_config", "rope_parameters", "sbert_ce_default_activation_function", "sentence_transformers",
        "vocab_size",
    },
    {**_NEVER, "rope_scaling": (), "position_embedding_type": ("absolute", "rope", "sans_pos")},
    # Those of the language model's head, and of training. `layer_norm_eps` is read by no part of the model.
    ("decoder_bias", "deterministic_flash_attn", "embedding_dropout", "initializer_cutoff_factor", "layer_norm_eps",
     "mlp_dropout", "reference_compile", "repad_logits_with_grad", "sparse_pred_ignore_index", "sparse_prediction",
     "tie_word_embeddings"),
)  # fmt: skip

KEYS: Mapping[str, Keys] = {
    "llama": _decoder("hidden_act", "attention_bias", "mlp_bias"),
    "mistral": _decoder("hidden_act"),
    "mixtral": _decoder("hidden_act", "num_local_experts", "num_experts", "num_experts_per_tok"),
    "qwen2": _decoder("hidden_act", "use_sliding_window", "max_window_layers"),
    "qwen3": _decoder("hidden_act", "attention_bias", "use_sliding_window", "max_window_layers"),
    # transformers gives either all layers of this family a window, or none.
    "qwen3_moe": _decoder(
        *("hidden_act", "attention_bias", "use_sliding_window", "num_local_experts", "num_experts"),
        *("num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob", "decoder_sparse_step", "mlp_only_layers"),
        harmless=("max_window_layers",),
        only={"shared_expert_intermediate_size": (0,)},
    ),
    # Gemma 2 and 3 read `hidden_activation`; `hidden_act` is a remnant of the first Gemma.
    "gemma2": _decoder(*_GEMMA, harmless=("hidden_act", "sliding_window_size")),
    "gemma3": _decoder(
        *(_GEMMA - {"attn_logit_softcapping"}),
        *("rope_local_base_freq", "sliding_window_pattern", "_sliding_window_pattern"),
        harmless=("hidden_act",),
    ),
    "phi3": _decoder("hidden_act"),
    "bert": _BERT,
    "modernbert": _MODERN,
    "roberta": _BERT,
}
"""By model family."""


def check_keys(path: Path, raw: Mapping[str, Any], family: str, ignored: Collection[str]) -> None:
    """Raises ModelError if a key of the object in `path` is neither used nor without effect nor in `ignored`."""
    keys = KEYS[family]
    for key, value in raw.items():
        if value is None or key in keys.used or key in keys.harmless or key in ignored:
            continue
        if key in keys.only and value in keys.only[key]:
            continue
        known = "is ignored by this architecture" if key in keys.only else "is unknown"
        raise ModelError(
            "model_unsupported",
            f"{path}: {key} = {json.dumps(value)[:80]} {known}, and it may change what the model computes, so the "
            f'model is not loaded; if it does not matter, add ignore_config_keys = ["{key}"] to the engine\'s table',
        )
