"""Symmetric weight-only quantization: int8 or int4 values with one scale per output or per group of inputs.

weight = value · scale, without zero point. For int4 the scale is chosen by search over its magnitude and its sign: the
range −8 to 7 is asymmetric, and the sign maps a group's largest weight to the longer side. This costs only load time.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec
import torch
from torch import Tensor

Bits = Literal[4, 8]
GROUP = 64
"""Default number of inputs that share a scale of int4 weights."""
_SHRINKS = tuple(1 - 0.025 * step for step in range(-4, 16))
_ROWS = 4096
"""Outputs per search pass; bounds the temporary memory for large matrices."""


class Scheme(msgspec.Struct, frozen=True):
    """How one matrix is quantized."""

    bits: Bits
    group: int | None = None
    """Number of inputs that share a scale; None: all inputs of an output."""

    def __str__(self) -> str:
        return f"int{self.bits}" + ("" if self.group is None else f" in groups of {self.group}")


INT8 = Scheme(8)


def scheme_of(name: str, group: int | None) -> Scheme:
    """The scheme for layers, from the settings `quantization` and `quantization_group`."""
    return INT8 if name == "int8" else Scheme(4, group or GROUP)


class Quantized(NamedTuple):
    """One quantized matrix."""

    values: Tensor
    """int8 [outputs, inputs]; for int4 within −8 to 7."""
    scales: Tensor
    """float32 [outputs, groups]; exact bfloat16 numbers if made by `quantize`."""
    bits: Bits

    @property
    def group(self) -> int:
        """Number of inputs that share a scale."""
        return self.values.shape[1] // self.scales.shape[1]


def fault(scheme: Scheme, inputs: int) -> str | None:
    """Why a matrix with this number of inputs cannot be quantized with `scheme`; None if it can."""
    if scheme.group is not None and (scheme.group < 2 or scheme.group % 2):
        return f"a group of {scheme.group} inputs is not an even number of them"
    if inputs % (scheme.group or 2):
        return f"{inputs} inputs are no multiple of {scheme.group or 2}"
    return None


def quantize(weight: Tensor, scheme: Scheme) -> Quantized:
    """Quantize `weight` [outputs, inputs]; `fault` must return None for it."""
    parts = [_quantize(rows.float(), scheme) for rows in torch.split(weight, _ROWS)]
    return Quantized(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]), scheme.bits)


def _quantize(weight: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    outputs, inputs = weight.shape
    grouped = weight.view(outputs, -1, scheme.group or inputs)
    top = 2 ** (scheme.bits - 1) - 1
    best_error = torch.full(grouped.shape[:2], float("inf"))
    best_scale = torch.ones(grouped.shape[:2])
    best_values = torch.zeros_like(grouped)
    for candidate in _candidates(grouped, scheme.bits):
        scale = candidate.bfloat16().float()
        scale = torch.where(scale == 0, 1.0, scale)
        values = (grouped / scale.unsqueeze(-1)).round_().clamp_(-top - 1, top)
        error = (values * scale.unsqueeze(-1)).sub_(grouped).square_().sum(-1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
        best_values = torch.where(better.unsqueeze(-1), values, best_values)
    return best_values.to(torch.int8).view(outputs, inputs), best_scale


def _candidates(grouped: Tensor, bits: Bits) -> Iterator[Tensor]:
    """Candidate scales [outputs, groups]; the one with the least squared error is used. int8 needs no search."""
    place = grouped.abs().argmax(-1, keepdim=True)
    extreme = grouped.gather(-1, place).squeeze(-1)
    if bits == 8:
        yield extreme.abs() / 127
        return
    for shrink in _SHRINKS:
        yield extreme * (-shrink / 8)
        yield extreme * (shrink / 8)


def dequantize(quantized: Quantized) -> Tensor:
    """Float32 [outputs, inputs]."""
    outputs, inputs = quantized.values.shape
    grouped = quantized.values.float().view(outputs, -1, quantized.group)
    return (grouped * quantized.scales.unsqueeze(-1)).view(outputs, inputs)


def join(parts: list[Quantized]) -> Quantized:
    """Concatenate the outputs of matrices with the same input and the same scheme."""
    if len(parts) == 1:
        return parts[0]
    return Quantized(
        torch.cat([part.values for part in parts]), torch.cat([part.scales for part in parts]), parts[0].bits
    )
