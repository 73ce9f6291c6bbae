"""What a decoder needs done between its matrix products. Each device has its own way of doing it."""

from typing import Protocol

from torch import Tensor

from engine.model.weights import LayerWeights, Weights
from engine.scheduling.batch import Batch


class Kernels(Protocol):
    """Owns the residual stream (float32) and the KV pages during one step.

    `rows` is the number of rows of the flat batch, a padding row included. Tensors that a call returns may be
    views of buffers that the next call of the same method overwrites.
    """

    def prepare(self, batch: Batch, rows: int) -> None:
        """Take in a step's indices from the host. Nothing after it until the next `prepare` needs the host."""
        ...

    def start(self, embedded: Tensor) -> None:
        """Begin the step: `embedded` [rows, hidden] becomes the residual stream."""
        ...

    def layers(self, weights: Weights) -> Tensor | None:
        """The normed output of all layers in one go: [rows, hidden]. None: they are to be run one by one."""
        ...

    def logits(self, weights: Weights) -> Tensor | None:
        """Layers and head in one go: the logits [rows, vocab] of every row. None: the head is to be run apart."""
        ...

    def norm(self, weight: Tensor) -> Tensor:
        """RMS norm of the residual stream: [rows, hidden]."""
        ...

    def normed(self, y: Tensor, weight: Tensor) -> Tensor:
        """RMS norm of `y` [rows, hidden], apart from the residual stream."""
        ...

    def add_norm(self, y: Tensor, weight: Tensor) -> Tensor:
        """Add `y` to the residual stream, then `norm`."""
        ...

    def attend(self, index: int, layer: LayerWeights, qkv: Tensor) -> Tensor:
        """Norm and rotate q and k, write k and v to their pages, attend: [rows, heads · head_dim]."""
        ...

    def gate(self, gate_up: Tensor) -> Tensor:
        """activation(gate) · up: [rows, intermediate]."""
        ...
