"""Estimate of the GPU memory that steps need beside weights and KV pool, checked before the pool is allocated."""

import torch

from config.model.settings import EngineSettings
from engine.errors import ModelError
from engine.gpu.attention_work import max_splits, partial_bytes
from engine.gpu.graph_sizes import captured_sizes
from engine.model.model_config import ModelConfig

_LIBRARIES_BYTES = 256 * 2**20
"""Workspaces of matrix products, and the allocator's fragmentation. An estimate."""
_GRAPH_BYTES = 8 * 2**20
"""Driver memory per captured graph of a few hundred launches. An estimate."""


def step_bytes(settings: EngineSettings, config: ModelConfig, dtype: torch.dtype) -> int:
    """Bytes for activations and logits of the largest step, partial results of split attention, captured graphs."""
    size = dtype.itemsize
    widths = (config.heads + 2 * config.kv_heads) * config.head_dim + 2 * config.heads * config.head_dim
    per_row = config.hidden_size * (4 + 3 * size) + size * max(widths, 3 * config.intermediate_size)
    # During sampling the logits exist in the compute dtype, as float32, and sorted with int64 indices.
    logits = settings.max_running * config.vocab_size * (size + 4 + 12)
    graphs = 0
    if settings.gpu.graphs and config.experts is None:
        sizes = captured_sizes(settings.max_running)
        graphs = len(sizes) * _GRAPH_BYTES + settings.max_running * per_row
    pieces = max_splits(settings.max_running, settings.max_model_len or config.max_positions)
    partial = partial_bytes(pieces, config.heads, config.head_dim)
    return settings.max_step_tokens * per_row + logits + partial + graphs + _LIBRARIES_BYTES


def check_memory(settings: EngineSettings, config: ModelConfig, dtype: torch.dtype, *, free_bytes: int) -> None:
    """Raises ModelError if KV pool and steps do not fit beside the weights, which are loaded."""
    steps = step_bytes(settings, config, dtype)
    if settings.kv.memory + steps > free_bytes:
        mib = 2**20
        raise ModelError(
            "device_memory",
            f"beside the weights {free_bytes // mib} MiB are free on {settings.device}, but kv.memory = "
            f"{settings.kv.memory // mib} MiB and steps with up to {steps // mib} MiB do not fit; set kv.memory to at "
            f"most {max(free_bytes - steps, 0) // mib}MiB, or lower max_running or max_step_tokens",
        )
