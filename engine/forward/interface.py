"""Interface of the operations between a decoder's matrix products, implemented per device."""

from typing import Protocol

from torch import Tensor

from engine.scheduling.batch import Batch
from engine.weights.decoder_weights import LayerWeights, Weights


class Kernels(Protocol):
    """Owns the residual stream (float32) and the KV pages during one step.

    `rows` is the number of rows of the flat batch, including a padding row. Returned tensors may be views of buffers
    that the next call of the same method overwrites.
    """

    def prepare(self, batch: Batch, rows: int) -> None:
        """Copy a step's indices from the host. No later call of the step reads host memory."""

    def start(self, embedded: Tensor) -> None:
        """Begin the step: `embedded` [rows, hidden] becomes the residual stream."""

    def layers(self, weights: Weights) -> Tensor | None:
        """All layers in one call: the normed output [rows, hidden]. None: not supported, run them one by one."""
        return None

    def logits(self, weights: Weights) -> Tensor | None:
        """Layers and head in one call: logits [rows, vocab] of every row. None: not supported, run the head alone."""
        return None

    def norm(self, weight: Tensor) -> Tensor:
        """RMS norm of the residual stream: [rows, hidden]."""

    def normed(self, y: Tensor, weight: Tensor) -> Tensor:
        """RMS norm of `y` [rows, hidden], independent of the residual stream."""

    def add_norm(self, y: Tensor, weight: Tensor) -> Tensor:
        """Add `y` [rows, hidden] to the residual stream, then `norm`."""

    def attend(self, index: int, layer: LayerWeights, qkv: Tensor) -> Tensor:
        """Norm and rotate q and k, write k and v to their pages, attend: [rows, heads · head_dim]."""

    def gate(self, gate_up: Tensor) -> Tensor:
        """activation(gate) · up: [rows, intermediate]."""
