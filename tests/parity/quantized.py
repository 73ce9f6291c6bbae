"""Reads quantized checkpoints independently of the engine: what their integers stand for, as an ordinary directory."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file


def expanded(directory: Path, out: Path) -> Path:
    """`directory`, with every quantized matrix as float32 weights; the rest is float32, too."""
    out.mkdir()
    raw = json.loads((directory / "config.json").read_text())
    del raw["quantization_config"]
    (out / "config.json").write_text(json.dumps({**raw, "dtype": "float32", "torch_dtype": "float32"}))
    found: dict[str, torch.Tensor] = {}
    for file in directory.glob("*.safetensors"):
        found |= load_file(file)
    plain = {}
    for name, tensor in found.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight_packed":
            plain[f"{module}.weight"] = matrix(tensor, found[f"{module}.weight_scale"], found[f"{module}.weight_shape"])
        elif kind not in {"weight_scale", "weight_shape"}:
            plain[name] = tensor.float()
    save_file(plain, out / "model.safetensors", metadata={"format": "pt"})
    return out


def matrix(packed: torch.Tensor, scale: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    """compressed-tensors: codes from the lowest bits of each word on, half the range above the value."""
    outputs, inputs = shape.tolist()
    words, scales = packed.numpy().view(np.uint32), scale.float().numpy()
    bits = 8 if words.shape[1] * 4 == inputs + -inputs % 4 else 4
    codes = np.stack([(words >> shift) & (2**bits - 1) for shift in range(0, 32, bits)], -1)
    values = codes.reshape(outputs, -1)[:, :inputs].astype(np.float32) - 2 ** (bits - 1)
    return torch.from_numpy(values * np.repeat(scales, inputs // scales.shape[1], axis=1))
