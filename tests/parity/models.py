"""Tiny models with random weights, written as Hugging Face directories, and what transformers says they answer."""

import warnings
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace
from tokenizers.models import WordLevel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import (
        Gemma2Config,
        Gemma2ForCausalLM,
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        MixtralConfig,
        MixtralForCausalLM,
        Phi3Config,
        Phi3ForCausalLM,
        PreTrainedModel,
        Qwen2Config,
        Qwen2ForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
    )

SHAPE = {
    "vocab_size": 211,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
PHI3_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 0.75,
    "attention_factor": 1.25,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factor": [2.0, 2.5, 3.0, 3.5, 4.0, 4.5],
}
GEMMA3_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
CASES = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama-tied-llama3": (
        LlamaForCausalLM,
        LlamaConfig,
        {"tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE, "num_key_value_heads": 1},
    ),
    "llama-biases": (
        LlamaForCausalLM,
        LlamaConfig,
        {"attention_bias": True, "mlp_bias": True, "rope_parameters": LINEAR_ROPE, "num_key_value_heads": 4},
    ),
    "mistral-window": (MistralForCausalLM, MistralConfig, {"sliding_window": 24, "head_dim": 32}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True}),
    "qwen2-window": (
        Qwen2ForCausalLM,
        Qwen2Config,
        {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 48, "tie_word_embeddings": True}),
    "qwen3-yarn": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 32, "rope_parameters": YARN_ROPE}),
    "gemma2": (
        Gemma2ForCausalLM,
        Gemma2Config,
        {"head_dim": 32, "sliding_window": 20, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 5.0},
    ),
    "gemma3": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {"head_dim": 32, "sliding_window": 20, "query_pre_attn_scalar": 24, "layer_types": GEMMA3_LAYERS},
    ),
    "phi3": (Phi3ForCausalLM, Phi3Config, {"sliding_window": 30}),
    "phi3-longrope": (
        Phi3ForCausalLM,
        Phi3Config,
        {"original_max_position_embeddings": 512, "rope_parameters": PHI3_ROPE},
    ),
    "mixtral": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "qwen3-moe": (
        Qwen3MoeForCausalLM,
        Qwen3MoeConfig,
        {
            "head_dim": 16,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 48,
            "mlp_only_layers": [1],
            "norm_topk_prob": True,
        },
    ),
}


def write_model(
    case: str, directory: Path, *, dtype: torch.dtype = torch.float32, shards: str = "1GB", **changes: object
) -> Path:
    """Write a case's weights, the same ones every time; `changes` of its config.

    Norms and biases are random too: ones and zeros hide errors.
    """
    model_class, config_class, options = CASES[case]
    torch.manual_seed(sum(case.encode()))
    model = model_class(config_class(**{**SHAPE, **options, **changes}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.3)
    model.to(dtype).save_pretrained(directory, max_shard_size=shards)
    words = Tokenizer(WordLevel({f"▁w{token}": token for token in range(SHAPE["vocab_size"])}, unk_token="▁w0"))
    words.decoder = Metaspace()
    words.save(str(directory / "tokenizer.json"))
    return directory


def reference(directory: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()


def greedy(model: PreTrainedModel, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """`tokens` greedy ids after each prompt. No two were nearly as likely: what rounds otherwise says the same."""
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    rows = torch.arange(len(prompts))
    # What stands behind a sequence's end changes nothing before it.
    ids = torch.zeros((len(prompts), int(lengths.max()) + tokens), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    with torch.inference_mode():
        for _ in range(tokens):
            logits = model(ids[:, : int(lengths.max())], use_cache=False).logits[rows, lengths - 1]
            best = logits.topk(2)
            margin = float((best.values[:, 0] - best.values[:, 1]).min())
            assert margin > 5e-5, "a near tie proves nothing: choose other weights"
            ids[rows, lengths] = best.indices[:, 0]
            lengths += 1
    return [line[len(prompt) : len(prompt) + tokens] for line, prompt in zip(ids.tolist(), prompts, strict=True)]
