"""The decoder's kernels in plain torch, for any device and shape; attention gathers the pages."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.forward.interface import Kernels
from engine.kernels import tiles
from engine.kernels.tiles import in_tiles
from engine.memory.kv_pool import KvPool
from engine.model.model_config import ModelConfig
from engine.scheduling.batch import Batch
from engine.weights.decoder_weights import LayerWeights
from engine.weights.mlp import gated


class TorchKernels(Kernels):
    """The reference for the other implementations, and the fallback on devices without one."""

    def __init__(
        self,
        config: ModelConfig,
        pool: KvPool,
        rotations: Sequence[tuple[Tensor, Tensor]],
        dtype: torch.dtype,
        *,
        tile: int = 0,
    ) -> None:
        """`rotations`: cosines and sines [positions, rotary_dim / 2] per layer; `pool` with untransposed keys.

        `tile`: rows per tile, see `engine.kernels.tiles`; 0: no tiles.
        """
        self._tile = tile
        self._config = config
        self._pool = pool
        self._rotations = rotations
        self._dtype = dtype
        self._residual = torch.empty(0)

    def prepare(self, batch: Batch, rows: int) -> None:
        device = self._pool.keys.device
        self._batch = batch
        tokens = len(batch.token_ids)
        positions = torch.zeros(rows, dtype=torch.int64)
        positions[:tokens] = torch.from_numpy(batch.positions)
        slots = torch.zeros(rows, dtype=torch.int64)
        slots[:tokens] = torch.from_numpy(batch.slots)
        self._positions = positions.to(device)
        size = self._pool.block_size
        self._blocks, self._offsets = (slots // size).to(device), (slots % size).to(device)
        self._tables = torch.from_numpy(batch.block_tables.astype(np.int64)).to(device)

    def start(self, embedded: Tensor) -> None:
        self._residual = embedded.float()

    def norm(self, weight: Tensor) -> Tensor:
        return self._rms(self._residual, weight).to(self._dtype)

    def add_norm(self, y: Tensor, weight: Tensor) -> Tensor:
        self._residual = self._residual + y
        return self.norm(weight)

    def attend(self, index: int, layer: LayerWeights, qkv: Tensor) -> Tensor:
        """See `Kernels.attend`; one gather and one SDPA per sequence."""
        config, batch = self._config, self._batch
        heads, kv_heads, head_dim = config.heads, config.kv_heads, config.head_dim
        split = qkv.float().view(len(qkv), heads + 2 * kv_heads, head_dim)
        q, k, v = torch.split(split, [heads, kv_heads, kv_heads], dim=1)
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = self._rms(q, layer.q_norm), self._rms(k, layer.k_norm)
        cos, sin = (table[self._positions].unsqueeze(1) for table in self._rotations[index])
        q, k = self._rotate(q, cos, sin), self._rotate(k, cos, sin)
        pool = self._pool
        key_scales = None if pool.key_scales is None else pool.key_scales[index]
        value_scales = None if pool.value_scales is None else pool.value_scales[index]
        self._write(pool.keys[index], key_scales, k)
        self._write(pool.values[index], value_scales, v)
        out = torch.zeros((len(qkv), heads, head_dim), device=qkv.device)
        window = config.windows[index]
        for sequence, context in enumerate(batch.context_lens.tolist()):
            start, end = batch.query_starts[sequence : sequence + 2].tolist()
            if start < end:
                table = self._tables[sequence, : -(-context // self._pool.block_size)]
                k = _numbers(pool.keys[index], key_scales, table)
                v = _numbers(pool.values[index], value_scales, table)
                out[start:end] = self._attend_one(q[start:end], k, v, context, window)
        return out.to(self._dtype).view(len(qkv), heads * head_dim)

    def _write(self, pages: Tensor, scales: Tensor | None, new: Tensor) -> None:
        """Write `new` [rows, kv_heads, head_dim] to its slots; int8 maps a head's largest absolute element to 127."""
        if scales is not None:
            largest = new.abs().amax(-1)
            scales[self._blocks, :, self._offsets] = largest / 127
            new = torch.round(new * torch.where(largest > 0, 127 / largest, 0).unsqueeze(-1))
        pages[self._blocks, :, self._offsets] = new.to(pages.dtype)

    def _attend_one(self, q: Tensor, keys: Tensor, values: Tensor, context: int, window: int) -> Tensor:
        """Attend `q` [new, heads, head_dim] over pages [blocks, kv_heads, block_size, head_dim] (`context` tokens)."""
        k = keys.transpose(0, 1).flatten(1, 2)[:, :context]
        v = values.transpose(0, 1).flatten(1, 2)[:, :context]
        scale, cap = self._config.query_scale, self._config.score_cap
        if self._tile:
            return tiles.attend(q, k, v, context - len(q), window, scale, cap, self._tile)
        at = torch.arange(context - len(q), context, device=q.device).unsqueeze(1)
        seen = torch.arange(context, device=q.device).unsqueeze(0)
        mask = seen <= at
        if window:
            mask &= seen > at - window
        q = q.transpose(0, 1)
        if cap:
            groups = len(q) // len(k)
            scores = q @ k.repeat_interleave(groups, dim=0).transpose(1, 2) * scale
            scores = (torch.tanh(scores / cap) * cap).masked_fill(~mask, float("-inf"))
            return (scores.softmax(-1) @ v.repeat_interleave(groups, dim=0)).transpose(0, 1)
        out = functional.scaled_dot_product_attention(
            q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), attn_mask=mask, enable_gqa=True, scale=scale
        )
        return out.squeeze(0).transpose(0, 1)

    def gate(self, gate_up: Tensor) -> Tensor:
        return in_tiles(partial(gated, activation=self._config.activation), gate_up, self._tile)

    def normed(self, y: Tensor, weight: Tensor) -> Tensor:
        return self._rms(y.float(), weight).to(self._dtype)

    def _rms(self, x: Tensor, weight: Tensor) -> Tensor:
        def rms(x: Tensor) -> Tensor:
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self._config.rms_eps) * weight

        return in_tiles(rms, x, self._tile)

    def _rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The first half of the rotated part pairs with its second half, as in Hugging Face's checkpoints."""
        rotary_dim = self._config.rotary_dim
        first, second = x[..., :rotary_dim].chunk(2, dim=-1)
        parts = (first * cos - second * sin, second * cos + first * sin, x[..., rotary_dim:])
        return torch.cat(parts, dim=-1)


def _numbers(pages: Tensor, scales: Tensor | None, table: Tensor) -> Tensor:
    """Pages of a block table as float32 [blocks, kv_heads, block_size, head_dim]."""
    numbers = pages[table].float()
    return numbers if scales is None else numbers * scales[table].unsqueeze(-1)
