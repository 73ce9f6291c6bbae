"""The decoder: embedding, layers, head, over one flat batch."""

import numpy as np
import torch
from torch import Tensor

from engine.batch import Batch
from engine.kernels import Kernels
from engine.weights import Weights


class Decoder:
    """Runs the layers. The state of a step lives in `kernels`."""

    def __init__(
        self, weights: Weights, kernels: Kernels, device: torch.device, *, pad_single: bool, logit_cap: float = 0.0
    ) -> None:
        """`logit_cap`: see `ModelConfig`.

        `pad_single`: products of one row may round otherwise than those of many, so compute one row as two.
        """
        self._weights = weights
        self._kernels = kernels
        self._device = device
        self._pad_single = pad_single
        self._logit_cap = logit_cap
        self._following = [*(layer.input_norm for layer in weights.layers[1:]), weights.final_norm]

    def forward(self, batch: Batch) -> Tensor:
        """Logits [len(batch.samples), vocab] of the rows that are to be sampled; writes the batch's KV."""
        weights, kernels = self._weights, self._kernels
        ids = torch.from_numpy(batch.token_ids).to(self._device)
        if len(ids) == 1 and self._pad_single:
            ids = torch.cat((ids, ids))
        embedded = weights.embedding[ids]
        kernels.start(batch, embedded if weights.embedding_scale is None else embedded * weights.embedding_scale)
        x = kernels.norm(weights.layers[0].input_norm)
        for index, layer in enumerate(weights.layers):
            y = layer.o(kernels.attend(index, layer, layer.qkv(x)))
            if layer.after_attention is not None:
                y = kernels.normed(y, layer.after_attention)
            y = layer.mlp(kernels.add_norm(y, layer.mlp_norm), kernels.gate)
            if layer.after_mlp is not None:
                y = kernels.normed(y, layer.after_mlp)
            x = kernels.add_norm(y, self._following[index])
        rows = np.fromiter((sample.row for sample in batch.samples), np.int64, len(batch.samples))
        if not len(rows):
            return x.new_empty((0, 0), dtype=torch.float32)
        if len(rows) == 1 and self._pad_single:
            rows = np.repeat(rows, 2)
        logits = weights.head(x[torch.from_numpy(rows).to(self._device)])[: len(batch.samples)]
        return logits if not self._logit_cap else torch.tanh(logits.float() / self._logit_cap) * self._logit_cap
