"""Angles of the rotary position embedding, as tables of cosines and sines."""

import math

import torch
from torch import Tensor

from engine.model_config import Rope


def inverse_frequencies(rope: Rope, head_dim: int) -> Tensor:
    """[head_dim / 2] radians a token, float32."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    frequencies: Tensor = 1.0 / (rope.theta**exponents)
    if rope.type == "linear":
        return frequencies / rope.factor
    if rope.type == "llama3":
        return _llama3(rope, frequencies)
    return frequencies


def _llama3(rope: Rope, frequencies: Tensor) -> Tensor:
    """Long wavelengths are stretched by `factor`, short ones kept, those between blended ("Llama 3.1" release)."""
    turns = rope.original_max_position / (2 * math.pi / frequencies)
    keep = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    blended = (1 - keep) * frequencies / rope.factor + keep * frequencies
    scaled = torch.where(turns < rope.low_freq_factor, frequencies / rope.factor, frequencies)
    between = (turns >= rope.low_freq_factor) & (turns <= rope.high_freq_factor)
    return torch.where(between, blended, scaled)


def rotation_table(rope: Rope, head_dim: int, positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [positions, head_dim / 2], float32."""
    angles = torch.outer(torch.arange(positions).float(), inverse_frequencies(rope, head_dim))
    return angles.cos(), angles.sin()
