"""Write a decoder with random weights as a Hugging Face directory, for measuring an engine's speed.

    python -m benchmarks.engine.make_model 125m /tmp/llama-125m [--dtype bfloat16]

The weights of a shape are deterministic.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SHAPES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True, "vocab_size": 1024},
    "3m": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 6,
           "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True, "vocab_size": 1024},
    "15m": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 8, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 64, "tie_word_embeddings": True, "vocab_size": 32_000},
    "125m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12,
             "num_key_value_heads": 4, "head_dim": 64, "tie_word_embeddings": False, "vocab_size": 32_000},
    "600m": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
             "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True, "vocab_size": 151_936},
}  # fmt: skip
_QWEN3 = {"600m"}
"""The shape of Qwen3-0.6B, with norms of q and k; the others are Llamas."""


def tensors(shape: dict[str, int], dtype: torch.dtype, *, qk_norm: bool) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden, inner, head_dim = shape["hidden_size"], shape["intermediate_size"], shape["head_dim"]
    queries, keys = shape["num_attention_heads"] * head_dim, shape["num_key_value_heads"] * head_dim

    def matrix(rows: int, columns: int) -> torch.Tensor:
        drawn: torch.Tensor = torch.randn((rows, columns), generator=generator) * float(columns) ** -0.5
        return drawn.to(dtype)

    weights = {
        "model.embed_tokens.weight": matrix(shape["vocab_size"], hidden),
        "model.norm.weight": torch.ones(hidden, dtype=dtype),
    }
    if not shape["tie_word_embeddings"]:
        weights["lm_head.weight"] = matrix(shape["vocab_size"], hidden)
    for layer in range(shape["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for name, rows, columns in (
            ("self_attn.q_proj", queries, hidden),
            ("self_attn.k_proj", keys, hidden),
            ("self_attn.v_proj", keys, hidden),
            ("self_attn.o_proj", hidden, queries),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ):
            weights[f"{at}.{name}.weight"] = matrix(rows, columns)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{at}.{name}.weight"] = torch.ones(hidden, dtype=dtype)
        if qk_norm:
            for name in ("q_norm", "k_norm"):
                weights[f"{at}.self_attn.{name}.weight"] = torch.ones(head_dim, dtype=dtype)
    return weights


def write(shape_name: str, directory: Path, dtype_name: str) -> None:
    shape = SHAPES[shape_name]
    family = "qwen3" if shape_name in _QWEN3 else "llama"
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["Qwen3ForCausalLM" if family == "qwen3" else "LlamaForCausalLM"],
        "model_type": family,
        "vocab_size": shape["vocab_size"],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "max_position_embeddings": 2048,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "torch_dtype": dtype_name,
        **shape,
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    weights = tensors(shape, getattr(torch, dtype_name), qk_norm=family == "qwen3")
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    tokenizer = Tokenizer(
        models.WordLevel({f"▁w{token}": token for token in range(shape["vocab_size"])}, unk_token="▁w0")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(directory / "tokenizer.json"))
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "▁w0", "eos_token": "▁w1"}
    (directory / "tokenizer_config.json").write_text(json.dumps(words))
    total = sum(tensor.numel() for tensor in weights.values())
    print(f"{directory}: {total / 1e6:.1f} M parameters, {dtype_name}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a decoder of random weights.")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    arguments = parser.parse_args()
    write(arguments.shape, arguments.directory, arguments.dtype)


if __name__ == "__main__":
    main()
