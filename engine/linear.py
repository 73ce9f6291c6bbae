"""Matrix products with fixed weights: prepacked for the CPU, plain elsewhere."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Linear = Callable[[Tensor], Tensor]
"""[rows, in] → [rows, out], in the weight's dtype."""


def make_linear(weight: Tensor, bias: Tensor | None, device: torch.device) -> Linear:
    """Prepare `weight` [out, in] for many products; the caller should drop its own reference."""
    if device.type == "cpu" and torch._C._has_mkldnn:  # noqa: SLF001
        return _Packed(weight, bias)
    return _Plain(weight.to(device), None if bias is None else bias.to(device))


class _Plain:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self._weight, self._bias)


class _Packed:
    """oneDNN's own weight layout: streams faster than a plain matrix for few rows, in float32 and bfloat16 alike.

    From two rows on, a row's result does not depend on how many rows stand beside it, to the last bit; one row alone
    may take another kernel: the decoder computes a single row as two.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)  # noqa: SLF001
        self._bias = bias
        self._linear = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self._linear(x, self._weight, self._bias, "none", [], "")
        return y
