"""Convert a model directory of Llama, Qwen2 or Qwen3 shape to a GGUF file for llama.cpp, keeping bf16.

    PEER/bin/python benchmarks/engine/to_gguf.py MODEL_DIR OUT.gguf

Runs in the peer's environment, which has the `gguf` package, so it imports nothing of this repository.
"""

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np

_FAMILIES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def tensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a safetensors file; bfloat16 as uint16, since NumPy has no such type."""
    raw = np.memmap(path, np.uint8, "r")
    length = int(raw[:8].view(np.uint64)[0])
    header = json.loads(bytes(raw[8 : 8 + length]))
    kinds = {"BF16": np.uint16, "F32": np.float32}
    return {
        name: raw[8 + length + entry["data_offsets"][0] : 8 + length + entry["data_offsets"][1]]
        .view(kinds[entry["dtype"]])
        .reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def new_name(name: str) -> str:
    stem, kind = name.rsplit(".", 1)
    if stem in _OUTSIDE:
        return f"{_OUTSIDE[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{_NAMES[part]}.{kind}"


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder rows: llama.cpp rotates adjacent pairs in Llamas, Hugging Face pairs the two halves of a head."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write(directory: Path, out: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    family = _FAMILIES[config["architectures"][0]]
    writer = gguf.GGUFWriter(out, family)
    _describe(writer, config)
    heads = {"attn_q.": config["num_attention_heads"], "attn_k.": config["num_key_value_heads"]}
    for name, stored in tensors(directory / "model.safetensors").items():
        to = new_name(name)
        rotated = next((count for part, count in heads.items() if part in to), 0) if family == "llama" else 0
        tensor = interleaved(stored, rotated) if rotated else stored
        if tensor.ndim == 1:  # norms and biases are float32 in GGUF
            wide = tensor if tensor.dtype == np.float32 else (tensor.astype(np.uint32) << 16).view(np.float32)
            writer.add_tensor(to, np.ascontiguousarray(wide))
        elif tensor.dtype == np.uint16:
            writer.add_tensor(
                to,
                np.ascontiguousarray(tensor).view(np.uint8),
                raw_dtype=gguf.GGMLQuantizationType.BF16,
            )
        else:
            writer.add_tensor(to, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    hidden, heads, vocab = config["hidden_size"], config["num_attention_heads"], config["vocab_size"]
    head_dim = config.get("head_dim", hidden // heads)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    # The words of `make_model`'s tokenizer make ids readable; prompts are sent as ids.
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"▁w{token}" for token in range(vocab)])
    writer.add_token_scores([0.0] * vocab)
    writer.add_token_types([gguf.TokenType.NORMAL] * vocab)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
