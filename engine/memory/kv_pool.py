"""Tensors of the paged KV cache."""

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.kernels.arena import huge_zeros
from engine.memory.kv_sizing import kv_token_bytes
from engine.model.model_config import ModelConfig


class KvPool:
    """Keys and values of all layers, in blocks of `block_size` tokens. Block 0 is scratch space for padding.

    keys:   [layers, blocks, kv_heads, block_size, head_dim], or with `transposed_keys`, for attention kernels that
            want tokens innermost, [layers, blocks, kv_heads, head_dim, block_size]
    values: [layers, blocks, kv_heads, block_size, head_dim]
    key_scales, value_scales: [layers, blocks, kv_heads, block_size] float32 if `dtype` is int8; else None
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        memory_bytes: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        transposed_keys: bool,
    ) -> None:
        block_bytes = kv_token_bytes(config, dtype.itemsize) * block_size
        self.block_size = block_size
        self.dtype = dtype
        self.blocks = memory_bytes // block_bytes
        if self.blocks < 2:
            raise ModelError(
                "kv_memory",
                f"{memory_bytes} bytes of KV memory are too few: a block of {block_size} tokens takes {block_bytes} "
                f'bytes and two are the least; state a larger kv.memory, or, if it is "auto", give the process more',
            )
        page = (config.kv_heads, block_size, config.head_dim)
        key_page = (config.kv_heads, config.head_dim, block_size) if transposed_keys else page
        self.keys = _zeros((config.layers, self.blocks, *key_page), dtype, device)
        self.values = _zeros((config.layers, self.blocks, *page), dtype, device)
        scales = (config.layers, self.blocks, config.kv_heads, block_size)
        self.key_scales: Tensor | None = None
        self.value_scales: Tensor | None = None
        if dtype == torch.int8:
            self.key_scales = _zeros(scales, torch.float32, device)
            self.value_scales = _zeros(scales, torch.float32, device)
        self.nbytes = block_bytes * self.blocks

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors that hold a part of a block; their shapes begin with [layers, blocks]."""
        scales = (self.key_scales, self.value_scales)
        return self.keys, self.values, *(scale for scale in scales if scale is not None)

    @property
    def tokens(self) -> int:
        """Tokens that the pool can hold, without the scratch block."""
        return (self.blocks - 1) * self.block_size


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return huge_zeros(shape, dtype) if device.type == "cpu" else torch.zeros(shape, dtype=dtype, device=device)
