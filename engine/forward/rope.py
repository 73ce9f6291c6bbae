"""Rotary position embedding: tables of cosines and sines."""

import math

import torch
from torch import Tensor

from engine.model.model_config import ModelConfig
from engine.model.rope_config import Rope


def rotation_table(rope: Rope, rotary_dim: int, positions: int, longest: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, two float32 tensors [positions, rotary_dim / 2]."""
    angles = torch.outer(torch.arange(positions).float(), inverse_frequencies(rope, rotary_dim, longest))
    return angles.cos() * rope.attention_factor, angles.sin() * rope.attention_factor


def rotations(config: ModelConfig, positions: int, longest: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """The table of every layer; layers with the same rope share one.

    `longest`: the engine's maximum sequence length in tokens (see `Rope.factors`), which may exceed `positions`, the
    number that fits into its KV pool; None: `positions`.
    """
    longest = longest or positions
    table = rotation_table(config.rope, config.rotary_dim, positions, longest)
    if config.local_rope is None:
        return [table] * config.layers
    local = rotation_table(config.local_rope, config.rotary_dim, positions, longest)
    return [local if window else table for window in config.windows]


def inverse_frequencies(rope: Rope, rotary_dim: int, longest: int) -> Tensor:
    """Float32 [rotary_dim / 2], radians per token; `longest` as in `Rope.factors`."""
    exponents = torch.arange(0, rotary_dim, 2, dtype=torch.int64).float() / rotary_dim
    frequencies: Tensor = 1.0 / (rope.theta**exponents)
    match rope.type:
        case "linear":
            return frequencies / rope.factor
        case "llama3":
            return _llama3(rope, frequencies)
        case "yarn":
            return _yarn(rope, frequencies, rotary_dim)
        case "longrope":
            return 1.0 / (torch.tensor(rope.factors(longest), dtype=torch.float32) * rope.theta**exponents)
    return frequencies


def _llama3(rope: Rope, frequencies: Tensor) -> Tensor:
    """Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between interpolated."""
    turns = rope.original_max_position / (2 * math.pi / frequencies)
    keep = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    blended = (1 - keep) * frequencies / rope.factor + keep * frequencies
    scaled = torch.where(turns < rope.low_freq_factor, frequencies / rope.factor, frequencies)
    between = (turns >= rope.low_freq_factor) & (turns <= rope.high_freq_factor)
    return torch.where(between, blended, scaled)


def _yarn(rope: Rope, frequencies: Tensor, rotary_dim: int) -> Tensor:
    """YaRN: pairs with many rotations keep their frequency, those with few are stretched, with a ramp between."""

    def pair_that_turns(times: float) -> float:
        return rotary_dim * math.log(rope.original_max_position / (times * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = pair_that_turns(rope.beta_fast), pair_that_turns(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    ramp = (torch.arange(rotary_dim // 2).float() - low) / (high - low or 0.001)
    stretched = ramp.clamp(0, 1)
    return frequencies / rope.factor * stretched + frequencies * (1 - stretched)
