"""The decoder: embedding, layers, head, over one flat batch."""

import numpy as np
import torch
from torch import Tensor

from engine.batch import Batch
from engine.kernels import Kernels
from engine.weights import Weights


class Decoder:
    """Runs the layers. The state of a step lives in `kernels`."""

    def __init__(self, weights: Weights, kernels: Kernels, device: torch.device) -> None:
        self._weights = weights
        self._kernels = kernels
        self._device = device

    def forward(self, batch: Batch) -> Tensor:
        """Logits [len(batch.samples), vocab] of the rows that are to be sampled; writes the batch's KV."""
        weights, kernels = self._weights, self._kernels
        ids = torch.from_numpy(batch.token_ids).to(self._device)
        if len(ids) == 1:
            # Products of one row may round otherwise than those of many: a second row makes rows independent.
            ids = torch.cat((ids, ids))
        kernels.start(batch, weights.embedding[ids])
        x = kernels.norm(weights.layers[0].input_norm)
        following = [layer.input_norm for layer in weights.layers[1:]]
        following.append(weights.final_norm)
        for index, layer in enumerate(weights.layers):
            x = kernels.add_norm(layer.o(kernels.attend(index, layer, layer.qkv(x))), layer.post_norm)
            x = kernels.add_norm(layer.down(kernels.gate(layer.gate_up(x))), following[index])
        rows = np.fromiter((sample.row for sample in batch.samples), np.int64, len(batch.samples))
        if not len(rows):
            return x.new_empty((0, 0), dtype=torch.float32)
        if len(rows) == 1:
            rows = np.repeat(rows, 2)
        last = x[torch.from_numpy(rows).to(self._device)].to(weights.head_dtype)
        return weights.head(last)[: len(batch.samples)]
