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
from engine.model.sentence_modules import Sentence
from engine.model.vectors import ScoreActivation
from engine.weights.encoder_weights import ClassifierHead, EncoderWeights, Norm


class Encoder(NamedTuple):
    """Computes embeddings, or a classifier's scores, from token ids."""

    weights: EncoderWeights
    config: EncoderConfig
    dtype: torch.dtype
    """Of the matrix products; everything between them is float32."""
    device: torch.device

    def forward(self, inputs: Sequence[Sequence[int]], seconds: Sequence[int | None] = ()) -> Tensor:
        """float32 [inputs, hidden], for a classifier [inputs, labels]; no input may be empty.

        `seconds`: where the second text of each input begins, whose tokens are of type 1; None: it has one text.
        """
        weights, config = self.weights, self.config
        lengths = [len(token_ids) for token_ids in inputs]
        ids = torch.tensor([token for token_ids in inputs for token in token_ids]).to(self.device)
        numbered = map(self._positions, inputs, seconds or [None] * len(inputs))
        positions = torch.from_numpy(np.concatenate(list(numbered))).to(self.device)
        x = self._norm(weights.words[ids] + weights.positions[positions], weights.norm)
        for layer in weights.layers:
            y = layer.o(self._attend(layer.qkv(x.to(self.dtype)), lengths))
            x = self._norm(x + y, layer.attention_norm)
            inner = layer.up(x.to(self.dtype))
            for part in torch.split(inner, lengths):
                part.copy_(_activate(part, config.activation))
            x = self._norm(x + layer.down(inner), layer.output_norm)
        head = weights.head
        ends = torch.split(x, lengths)
        return torch.stack(
            [pooled(part, config.sentence) if head is None else self._score(part[0], head) for part in ends]
        )

    def _positions(self, token_ids: Sequence[int], second: int | None) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Rows of the position table."""
        pad = self.config.pad_token
        if pad is None:
            rows = np.arange(len(token_ids))
        else:
            counted = np.asarray(token_ids) != pad
            rows = np.asarray(np.cumsum(counted) * counted + pad, np.int64)
        if second is not None and self.config.tells_texts_apart:
            rows[second:] += self.config.positions
        return rows

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

    def _score(self, row: Tensor, head: ClassifierHead) -> Tensor:
        """The scores [labels] of a first row [hidden]."""
        inner = torch.tanh(functional.linear(row, head.dense.weight, head.dense.bias))
        return scores_of(functional.linear(inner, head.out.weight, head.out.bias), self.config.scored_by)


def pooled(rows: Tensor, sentence: Sentence) -> Tensor:
    """The embedding [hidden] of an input's last rows [tokens, hidden]."""
    match sentence.pooling:
        case "cls":
            row = rows[0]
        case "last":
            row = rows[-1]
        case "mean":
            row = rows.mean(0)
    return functional.normalize(row, dim=0) if sentence.normalize else row


def scores_of(logits: Tensor, activation: ScoreActivation | None) -> Tensor:
    """A classifier's scores [labels]."""
    match activation:
        case "sigmoid":
            return torch.sigmoid(logits)
        case "softmax":
            return torch.softmax(logits, 0)
        case _:
            return logits


def _activate(x: Tensor, activation: EncoderActivation) -> Tensor:
    """Computed in float32."""
    match activation:
        case "gelu":
            return functional.gelu(x.float())
        case "gelu_tanh":
            return functional.gelu(x.float(), approximate="tanh")
        case "relu":
            return functional.relu(x)
