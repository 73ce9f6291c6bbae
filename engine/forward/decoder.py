"""The decoder: embedding, layers and head over one flat batch."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.forward.interface import Kernels
from engine.gpu.async_copy import to_device
from engine.lora.deltas import AdaptedWeights
from engine.scheduling.batch import Batch, only_decodes, sampled_rows
from engine.weights.decoder_weights import Weights


class Decoder:
    """Runs the layers. The state of a step (indices on the device, residual stream) is held by `kernels`."""

    def __init__(
        self, weights: Weights, kernels: Kernels, device: torch.device, *, pad_single: bool, logit_cap: float = 0.0
    ) -> None:
        """`logit_cap`: see `ModelConfig`.

        `pad_single`: compute a batch of one row as two rows, because libraries use another kernel, with other rounding,
        for a single row.
        """
        self._weights = weights
        self._adapted = AdaptedWeights(weights)
        self._kernels = kernels
        self._device = device
        self._pad_single = pad_single
        self._logit_cap = logit_cap
        self._following = [*(layer.input_norm for layer in weights.layers[1:]), weights.final_norm]

    def forward(self, batch: Batch, ids: Tensor) -> Tensor:
        """Run one step: write the batch's KV and return the logits [len(batch.samples), vocab] of the rows to sample.

        `ids`: the batch's token ids [rows] int64, on the device.
        """
        if only_decodes(batch) and not batch.adapters and not self._pad_single:
            self.prepare(batch, len(ids))
            return self._decoded(ids)
        x = self.hidden(batch, ids)
        if not batch.samples:
            return x.new_empty((0, 0), dtype=torch.float32)
        return self.logits_of(x, sampled_rows(batch))

    def hidden(self, batch: Batch, ids: Tensor) -> Tensor:
        """The normed output [rows, hidden] of the last layer, valid until the next step; writes the batch's KV."""
        if self._pad_single and len(ids) == 1:
            ids = torch.cat((ids, ids))
        self.prepare(batch, len(ids))
        if not batch.adapters:
            return self.layers(ids)
        self._start(ids)
        with self._adapted.on(batch.adapters) as adapted:
            return self._one_by_one(adapted)

    def logits_of(self, x: Tensor, rows: npt.NDArray[np.int64]) -> Tensor:
        """Logits [len(rows), vocab] of at least one row of `x`, the output of `hidden`."""
        count = len(rows)
        if count == 1 and self._pad_single:
            rows = np.repeat(rows, 2)
        return self.logits(x[to_device(rows, self._device)])[:count]

    def prepare(self, batch: Batch, rows: int) -> None:
        """Copy the batch's indices to the device, for a step of `rows` rows, padding included."""
        self._kernels.prepare(batch, rows)

    def layers(self, ids: Tensor) -> Tensor:
        """The normed output [rows, hidden] of the last layer. Reads no host memory, so that a graph can capture it."""
        self._start(ids)
        return self._layers()

    def _layers(self) -> Tensor:
        together = self._kernels.layers(self._weights)
        return self._one_by_one(self._weights) if together is None else together

    def _decoded(self, ids: Tensor) -> Tensor:
        """Logits [rows, vocab] of every row."""
        self._start(ids)
        logits = self._kernels.logits(self._weights)
        return self.logits(self._layers()) if logits is None else self._capped(logits)

    def _start(self, ids: Tensor) -> None:
        weights = self._weights
        embedded = weights.embedding[ids]
        self._kernels.start(embedded if weights.embedding_scale is None else embedded * weights.embedding_scale)

    def _one_by_one(self, weights: Weights) -> Tensor:
        """The layers computed by one kernel call per operation; returns the normed output [rows, hidden]."""
        kernels = self._kernels
        x = kernels.norm(weights.layers[0].input_norm)
        for index, layer in enumerate(weights.layers):
            y = layer.o(kernels.attend(index, layer, layer.qkv(x)))
            if layer.after_attention is not None:
                y = kernels.normed(y, layer.after_attention)
            y = layer.mlp(kernels.add_norm(y, layer.mlp_norm), kernels.gate)
            if layer.after_mlp is not None:
                y = kernels.normed(y, layer.after_mlp)
            x = kernels.add_norm(y, self._following[index])
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Logits [rows, vocab] of the normed output `x` [rows, hidden]."""
        assert self._weights.head is not None, "the model makes text"
        return self._capped(self._weights.head(x))

    def _capped(self, logits: Tensor) -> Tensor:
        return logits if not self._logit_cap else torch.tanh(logits.float() / self._logit_cap) * self._logit_cap
