"""The memory of the paged KV cache: how many blocks fit, and where a layer's pages lie."""

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model_config import ModelConfig


class KvPool:
    """Keys and values of all layers, in blocks of `block_size` tokens. Block 0 is scratch for padding.

    keys:   [layers, blocks, kv_heads, block_size, head_dim], or, where the attention kernel wants tokens innermost,
            [layers, blocks, kv_heads, head_dim, block_size] (`transposed_keys`)
    values: [layers, blocks, kv_heads, block_size, head_dim]
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
        block_bytes = 2 * config.layers * config.kv_heads * config.head_dim * block_size * dtype.itemsize
        self.block_size = block_size
        self.blocks = memory_bytes // block_bytes
        if self.blocks < 2:
            raise ModelError(
                "kv_memory",
                f"kv.memory = {memory_bytes} bytes holds no KV block: one of {block_size} tokens takes {block_bytes} "
                f"bytes and two are the least; raise kv.memory",
            )
        page = (config.kv_heads, block_size, config.head_dim)
        key_page = (config.kv_heads, config.head_dim, block_size) if transposed_keys else page
        self.keys: Tensor = torch.zeros((config.layers, self.blocks, *key_page), dtype=dtype, device=device)
        self.values: Tensor = torch.zeros((config.layers, self.blocks, *page), dtype=dtype, device=device)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that a block consists of, each [layers, blocks, …]."""
        return self.keys, self.values

    @property
    def tokens(self) -> int:
        """Tokens that the pool can hold, the scratch block not counted."""
        return (self.blocks - 1) * self.block_size
