"""One layer's kernels called directly: shared by the tests of every implementation."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.forward.interface import Kernels
from engine.model.model_config import ModelConfig
from engine.model.rope_config import Rope
from engine.scheduling.batch import Batch
from engine.weights.decoder_weights import LayerWeights
from engine.weights.mlp import Dense


def shape(heads: int, kv_heads: int, head_dim: int, window: int, **options: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "architecture": "test",
        "vocab_size": 10,
        "hidden_size": 48,
        "intermediate_size": 80,
        "layers": 1,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "rms_eps": 1e-5,
        "max_positions": 512,
        "rope": Rope(100.0),
        "rotary_dim": head_dim,
        "query_scale": head_dim**-0.5,
        "tied_head": None,
        "windows": (window,),
    }
    return ModelConfig(**{**values, **options})


def layer(config: ModelConfig) -> LayerWeights:
    norm = torch.rand(config.head_dim) + 0.5 if config.qk_norm else None
    unused = torch.empty(0)
    product = torch.nn.Identity()
    return LayerWeights(unused, product, norm, norm, product, None, unused, Dense(product, product), None)


def step(
    target: Kernels,
    config: ModelConfig,
    weights: LayerWeights,
    size: int,
    work: list[tuple[Tensor, int, int]],
    *,
    every: int | None = None,
) -> Tensor:
    """Attend for the rows first : end of each sequence [tokens, width].

    Sequence i owns every n-th block, with n = `every`, or the number of sequences.
    """
    every = every or len(work)
    lengths = [end - first for _, first, end in work]
    widest = max(-(-end // size) for _, _, end in work)
    tables = np.array([[1 + index + every * block for block in range(widest)] for index in range(len(work))], np.int32)
    positions = np.concatenate([np.arange(first, end) for _, first, end in work])
    owners = np.repeat(np.arange(len(work)), lengths)
    slots = tables[owners, positions // size].astype(np.int64) * size + positions % size
    batch = Batch(
        token_ids=np.zeros(len(positions), np.int64),
        positions=positions,
        slots=slots,
        query_starts=np.cumsum([0, *lengths], dtype=np.int32),
        context_lens=np.array([end for _, _, end in work], np.int32),
        block_tables=tables,
        samples=[],
    )
    target.prepare(batch, len(positions))
    target.start(torch.zeros(len(positions), config.hidden_size))
    return target.attend(0, weights, torch.cat([rows[first:end] for rows, first, end in work])).clone()
