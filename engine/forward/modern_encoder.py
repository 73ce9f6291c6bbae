"""ModernBERT over inputs of any length in one flat batch; an input's vector has the same bytes in every batch.

How that comes about is told in `engine.forward.encoder`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from engine.forward.encoder import pooled, scores_of
from engine.model.modern_config import ModernActivation, ModernConfig
from engine.weights.modern_weights import ModernWeights, PlainNorm, PooledHead

_QUERIES = 256
"""Rows of an input that attend within a window at once: time and memory then grow with the input's length alone."""


class ModernEncoder:
    """Computes embeddings, or a classifier's scores, from token ids."""

    def __init__(self, weights: ModernWeights, config: ModernConfig, dtype: torch.dtype, device: torch.device) -> None:
        """`dtype`: of the matrix products; everything between them is float32."""
        self._weights = weights
        self._config = config
        self._dtype = dtype
        self._device = device
        self._turns = {theta: self._turned(theta) for theta in set(config.thetas)}
        """By theta: cosines and sines, each float32 [positions, head_dim / 2]."""

    def forward(self, inputs: Sequence[Sequence[int]], seconds: Sequence[int | None] = ()) -> Tensor:
        """float32 [inputs, hidden], for a classifier [inputs, labels]; no input may be empty.

        `seconds` has no effect: the model does not tell the tokens of two texts apart.
        """
        weights, config = self._weights, self._config
        lengths = [len(token_ids) for token_ids in inputs]
        ids = torch.tensor([token for token_ids in inputs for token in token_ids]).to(self._device)
        x = self._norm(weights.words[ids], weights.norm)
        for index, layer in enumerate(weights.layers):
            normed = x if layer.attention_norm is None else self._norm(x, layer.attention_norm)
            x = x + layer.o(self._attend(index, layer.qkv(normed.to(self._dtype)), lengths))
            inner = layer.inner(self._norm(x, layer.mlp_norm).to(self._dtype))
            gated = torch.cat([self._gated(part) for part in torch.split(inner, lengths)])
            x = x + layer.down(gated)
        ends = torch.split(self._norm(x, weights.final_norm), lengths)
        head = weights.head
        if head is None:
            return torch.stack([pooled(rows, config.sentence) for rows in ends])
        return torch.stack([self._score(rows, head) for rows in ends])

    def _turned(self, theta: float) -> tuple[Tensor, Tensor]:
        size = self._config.hidden_size // self._config.heads
        frequencies = 1.0 / theta ** (torch.arange(0, size, 2).float() / size)
        angles = torch.outer(torch.arange(self._config.usable_positions).float(), frequencies)
        return angles.cos().to(self._device), angles.sin().to(self._device)

    def _norm(self, x: Tensor, norm: PlainNorm) -> Tensor:
        return functional.layer_norm(x, (self._config.hidden_size,), norm.weight, norm.bias, self._config.norm_eps)

    def _attend(self, index: int, qkv: Tensor, lengths: list[int]) -> Tensor:
        """[rows, 3 · hidden] → [rows, hidden]; bidirectional attention within each input."""
        config = self._config
        reach, (cosines, sines) = config.reach[index], self._turns[config.thetas[index]]
        out = torch.empty((len(qkv), config.hidden_size), dtype=self._dtype, device=self._device)
        for part, to in zip(torch.split(qkv, lengths), torch.split(out, lengths), strict=True):
            count = len(part)
            q, k, v = part.float().view(count, 3, config.heads, -1).permute(1, 2, 0, 3)
            q, k = _rotated(q, cosines[:count], sines[:count]), _rotated(k, cosines[:count], sines[:count])
            if reach is None or reach >= count:
                to.copy_(_attended(q, k, v))
                continue
            for start in range(0, count, _QUERIES):
                end = min(start + _QUERIES, count)
                first, last = max(start - reach, 0), min(end + reach, count)
                rows, columns = torch.arange(start, end), torch.arange(first, last)
                near = (rows[:, None] - columns[None]).abs() <= reach
                to[start:end] = _attended(q[:, start:end], k[:, first:last], v[:, first:last], near.to(self._device))
        return out

    def _gated(self, inner: Tensor) -> Tensor:
        active, factor = inner.float().chunk(2, dim=-1)
        return (_activate(active.contiguous(), self._config.activation) * factor).to(inner.dtype)

    def _score(self, rows: Tensor, head: PooledHead) -> Tensor:
        """The scores [labels] of an input's last rows [tokens, hidden]."""
        config = self._config
        pooled = rows[0] if config.classifier_pooling == "cls" else rows.mean(0)
        inner = _activate(functional.linear(pooled, head.dense, head.dense_bias), config.classifier_activation)
        return scores_of(functional.linear(self._norm(inner, head.norm), head.out, head.out_bias), config.scored_by)


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary embedding of [heads, tokens, head_dim]: element i is turned with element i + head_dim / 2."""
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cosines - right * sines, right * cosines + left * sines), dim=-1)


def _attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """[queries, heads · head_dim] of q [heads, queries, head_dim], and of k and v."""
    heads = functional.scaled_dot_product_attention(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), attn_mask=mask)
    return heads[0].transpose(0, 1).reshape(q.shape[1], -1)


def _activate(x: Tensor, activation: ModernActivation) -> Tensor:
    match activation:
        case "gelu":
            return functional.gelu(x)
        case "gelu_tanh":
            return functional.gelu(x, approximate="tanh")
        case "silu":
            return functional.silu(x)
        case "relu":
            return functional.relu(x)
