"""The encoder: inputs of any length concatenated into one flat batch, without padding.

Matrix products run over all rows at once; on the CPU a row's result does not depend on the other rows. Sums and norms
are computed per row, attention, activation and pooling per input, because torch's vectorized loops round differently at
the end of an array. So an input's embedding is bit-identical in every batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.model.encoder_config import EncoderActivation, EncoderConfig
from engine.weights.encoder_weights import EncoderWeights, Norm


class Encoder(NamedTuple):
    """Computes embeddings from token ids."""

    weights: EncoderWeights
    config: EncoderConfig
    dtype: torch.dtype
    """Of the matrix products; everything between them is float32."""
    device: torch.device

    def forward(self, inputs: Sequence[Sequence[int]]) -> Tensor:
        """float32 [inputs, hidden]; no input may be empty."""
        weights, config = self.weights, self.config
        lengths = [len(token_ids) for token_ids in inputs]
        ids = torch.tensor([token for token_ids in inputs for token in token_ids]).to(self.device)
        positions = torch.from_numpy(np.concatenate(list(map(self._positions, inputs)))).to(self.device)
        x = self._norm(weights.words[ids] + weights.positions[positions], weights.norm)
        for layer in weights.layers:
            y = layer.o(self._attend(layer.qkv(x.to(self.dtype)), lengths))
            x = self._norm(x + y, layer.attention_norm)
            inner = layer.up(x.to(self.dtype))
            for part in torch.split(inner, lengths):
                part.copy_(_activate(part, config.activation))
            x = self._norm(x + layer.down(inner), layer.output_norm)
        return torch.stack([self._pool(part) for part in torch.split(x, lengths)])

    def _positions(self, token_ids: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        pad = self.config.pad_token
        if pad is None:
            return np.arange(len(token_ids))
        counted = np.asarray(token_ids) != pad
        return np.asarray(np.cumsum(counted) * counted + pad, np.int64)

    def _norm(self, x: Tensor, norm: Norm) -> Tensor:
        return functional.layer_norm(x, (self.config.hidden_size,), norm.weight, norm.bias, self.config.norm_eps)

    def _attend(self, qkv: Tensor, lengths: list[int]) -> Tensor:
        """[rows, 3 · hidden] → [rows, hidden]; bidirectional attention within each input."""
        config = self.config
        out = torch.empty((len(qkv), config.hidden_size), dtype=self.dtype, device=self.device)
        for part, to in zip(torch.split(qkv, lengths), torch.split(out, lengths), strict=True):
            # On the CPU torch's attention is several times faster in float32 than in bfloat16.
            q, k, v = part.float().view(len(part), 3, config.heads, -1).permute(1, 2, 0, 3).unsqueeze(1)
            heads = functional.scaled_dot_product_attention(q, k, v)
            to.copy_(heads[0].transpose(0, 1).reshape(len(part), -1))
        return out

    def _pool(self, rows: Tensor) -> Tensor:
        sentence = self.config.sentence
        pooled = rows[0] if sentence.pooling == "cls" else rows.mean(0)
        return functional.normalize(pooled, dim=0) if sentence.normalize else pooled


def _activate(x: Tensor, activation: EncoderActivation) -> Tensor:
    """Computed in float32."""
    match activation:
        case "gelu":
            return functional.gelu(x.float())
        case "gelu_tanh":
            return functional.gelu(x.float(), approximate="tanh")
        case "relu":
            return functional.relu(x)
