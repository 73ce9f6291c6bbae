"""The decoder: embedding, layers, head, over one flat batch."""

import numpy as np
import torch
from torch import Tensor

from engine.batch import Batch
from engine.kernels import Kernels
from engine.weights import Weights


class Decoder:
    """Runs the layers. The state of a step lives in `kernels`."""

    def __init__(self, weights: Weights, kernels: Kernels, device: torch.device, *, pad_single: bool) -> None:
        """`pad_single`: products of one row may round otherwise than those of many, so compute one row as two."""
        self._weights = weights
        self._kernels = kernels
        self._device = device
        self._pad_single = pad_single
        self._following = [*(layer.input_norm for layer in weights.layers[1:]), weights.final_norm]

    def forward(self, batch: Batch) -> Tensor:
        """Logits [len(batch.samples), vocab] of the rows that are to be sampled; writes the batch's KV."""
        weights, kernels = self._weights, self._kernels
        ids = torch.from_numpy(batch.token_ids).to(self._device)
        if len(ids) == 1 and self._pad_single:
            ids = torch.cat((ids, ids))
        kernels.start(batch, weights.embedding[ids])
        x = kernels.norm(weights.layers[0].input_norm)
        for index, layer in enumerate(weights.layers):
            x = kernels.add_norm(layer.o(kernels.attend(index, layer, layer.qkv(x))), layer.post_norm)
            x = kernels.add_norm(layer.down(kernels.gate(layer.gate_up(x))), self._following[index])
        rows = np.fromiter((sample.row for sample in batch.samples), np.int64, len(batch.samples))
        if not len(rows):
            return x.new_empty((0, 0), dtype=torch.float32)
        if len(rows) == 1 and self._pad_single:
            rows = np.repeat(rows, 2)
        return weights.head(x[torch.from_numpy(rows).to(self._device)])[: len(batch.samples)]
