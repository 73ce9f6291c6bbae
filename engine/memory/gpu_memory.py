"""What an engine takes of a GPU's memory beside weights and KV pool: arithmetic, checked before the pool is made."""

import torch

from config.model.settings import EngineSettings
from engine.errors import ModelError
from engine.gpu.attention_work import most_pieces, partial_bytes
from engine.gpu.graph_sizes import captured_sizes
from engine.model.model_config import ModelConfig

_LIBRARIES_BYTES = 256 * 2**20
"""Workspaces of the matrix products, and what the allocator loses to fragments. An estimate."""
_GRAPH_BYTES = 8 * 2**20
"""What the driver keeps of one captured graph of a few hundred launches. An estimate."""


def step_bytes(settings: EngineSettings, config: ModelConfig, dtype: torch.dtype) -> int:
    """The largest step's activations and logits, the splits' partial results, the captured graphs."""
    size = dtype.itemsize
    widths = (config.heads + 2 * config.kv_heads) * config.head_dim + 2 * config.heads * config.head_dim
    per_row = config.hidden_size * (4 + 3 * size) + size * max(widths, 3 * config.intermediate_size)
    # Sampling holds the logits as they come, as float32, and sorted with their places.
    logits = settings.max_running * config.vocab_size * (size + 4 + 12)
    graphs = 0
    if settings.gpu.graphs and config.experts is None:
        sizes = captured_sizes(settings.max_running)
        graphs = len(sizes) * _GRAPH_BYTES + settings.max_running * per_row
    pieces = most_pieces(settings.max_running, settings.max_model_len or config.max_positions)
    partial = partial_bytes(pieces, config.heads, config.head_dim)
    return settings.max_step_tokens * per_row + logits + partial + graphs + _LIBRARIES_BYTES


def check_memory(settings: EngineSettings, config: ModelConfig, dtype: torch.dtype, *, free_bytes: int) -> None:
    """Is there room for pool and steps, now that the weights are loaded?

    Raises:
        ModelError: no; and how much there is.
    """
    steps = step_bytes(settings, config, dtype)
    if settings.kv.memory + steps > free_bytes:
        mib = 2**20
        raise ModelError(
            "device_memory",
            f"beside the weights {free_bytes // mib} MiB are free on {settings.device}, but kv.memory = "
            f"{settings.kv.memory // mib} MiB and steps with up to {steps // mib} MiB do not fit; set kv.memory to at "
            f"most {max(free_bytes - steps, 0) // mib}MiB, or lower max_running or max_step_tokens",
        )
