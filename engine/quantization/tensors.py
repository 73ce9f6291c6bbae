"""Quantized matrices as tensors of a file, and their source for the loader: stored integers, or weights to quantize."""

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.checkpoint import Checkpoint
from engine.quantization.config import Quantization
from engine.quantization.scheme import Bits, Quantized, Scheme, fault, quantize


def to_tensors(name: str, quantized: Quantized) -> dict[str, Tensor]:
    """The file's tensors: integers plus half their range, packed into int32 from the lowest bits up; scales; shape."""
    return {
        f"{name}.weight_packed": _pack(quantized.values, quantized.bits),
        f"{name}.weight_scale": quantized.scales.bfloat16(),
        f"{name}.weight_shape": torch.tensor(quantized.values.shape),
    }


def _pack(values: Tensor, bits: Bits) -> Tensor:
    outputs, inputs = values.shape
    per_word = 32 // bits
    codes = torch.zeros(outputs, inputs + -inputs % per_word, dtype=torch.int64)
    codes[:, :inputs] = values.to(torch.int64) + 2 ** (bits - 1)
    shifts = torch.arange(0, 32, bits)
    words: Tensor = (codes.view(outputs, -1, per_word) << shifts).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def _unpack(words: Tensor, bits: Bits, inputs: int) -> Tensor:
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    codes: Tensor = (words.unsqueeze(-1) >> shifts) & (2**bits - 1)
    values: Tensor = (codes - 2 ** (bits - 1)).to(torch.int8)
    return values.flatten(1)[:, :inputs].contiguous()


def quantized(name: str, weight: Tensor, scheme: Scheme) -> Quantized:
    """Quantize the matrix `name`, float32 [outputs, inputs]. Raises ModelError if the scheme does not fit it."""
    _check(name, weight.shape[1], scheme)
    return quantize(weight, scheme)


def _check(name: str, inputs: int, scheme: Scheme) -> None:
    if why := fault(scheme, inputs):
        raise ModelError("quantization", f"{name} cannot be {scheme}: {why}; choose another group size, or int8")


class QuantizedSource:
    """Provides the loader with quantized matrices."""

    def __init__(self, checkpoint: Checkpoint, quantization: Quantization | None) -> None:
        self._checkpoint = checkpoint
        self._quantization = quantization

    def has(self, name: str) -> bool:
        """Whether the files hold a quantized matrix of this name."""
        return f"{name}.weight_packed" in self._checkpoint

    def take(self, name: str, outputs: int, inputs: int, *, weights: str | None = None) -> Quantized | None:
        """The matrix `name` [outputs, inputs]; None if not quantized. `weights`: where its weights are, if elsewhere.

        Raises ModelError: a tensor is missing or misshapen, or the scheme does not fit this number of inputs.
        """
        scheme = None if self._quantization is None else self._quantization.scheme(name)
        if scheme is None or self._quantization is None:
            return None
        if self._quantization.stored:
            if weights not in {None, name}:
                return None  # a tied head, of which the files hold no integers
            return self._stored(name, outputs, inputs, scheme)
        weight = self._checkpoint.take(f"{weights or name}.weight", (outputs, inputs), torch.float32)
        return quantized(name, weight, scheme)

    def take_alike(self, parts: dict[str, int], inputs: int) -> list[Quantized] | None:
        """Several matrices to be fused, by output size; None: none of them is quantized.

        Raises ModelError: as `take`, or they have different schemes.
        """
        matrices = [self.take(name, outputs, inputs) for name, outputs in parts.items()]
        kinds = {None if matrix is None else (matrix.bits, matrix.group) for matrix in matrices}
        if len(kinds) > 1:
            names = ", ".join(parts)
            raise ModelError("model_unsupported", f"{names} are computed as one product and must be quantized alike")
        return None if kinds == {None} else [matrix for matrix in matrices if matrix is not None]

    def _stored(self, name: str, outputs: int, inputs: int, scheme: Scheme) -> Quantized:
        for more in ("weight_zero_point", "weight_g_idx"):
            if f"{name}.{more}" in self._checkpoint:
                why = f"tensor {name}.{more}: asymmetric or reordered weights are not read"
                raise ModelError("model_unsupported", why)
        words = self._checkpoint.take_integers(f"{name}.weight_packed", (outputs, -(-inputs * scheme.bits // 32)))
        _check(name, inputs, scheme)
        groups = inputs // (scheme.group or inputs)
        scales = self._checkpoint.take(f"{name}.weight_scale", (outputs, groups), torch.float32)
        shape = self._checkpoint.take_integers(f"{name}.weight_shape", (2,)).tolist()
        if shape != [outputs, inputs]:
            raise ModelError("model_tensor", f"tensor {name}.weight_shape says {shape}, not {[outputs, inputs]}")
        return Quantized(_unpack(words, scheme.bits, inputs), scales, scheme.bits)
