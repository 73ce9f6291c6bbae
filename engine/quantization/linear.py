"""One quantized matrix, packed as `engine.kernels.quantized_product` wants it.

Panels of 64 outputs are four vectors of sixteen. Four bits: [panel, inputs / 2, 16 outputs, 2 inputs] words of 16 bits,
in which the four vectors have four bits each, the first one the lowest, as value + 8. Eight bits: bytes of sign and
magnitude [panel, inputs / 2, 2, 4, 2, 8]: two vectors at a time, eight bytes of each in turn, as
the processor interleaves.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.kernels import quantized_product as product
from engine.kernels.arena import Arena
from engine.kernels.compiled import Kernel, quantized_code
from engine.kernels.product_kernel import (
    BIAS,
    COUNTER,
    COUNTER_AT,
    INPUTS,
    OUT,
    OUTPUTS,
    PANEL,
    PANEL_BYTES,
    PANELS,
    PARTS,
    ROWS,
    SCRATCH,
    SCRATCH_FLOATS,
    Arguments,
    X,
)
from engine.kernels.quantized_simd import PAIR_BYTES
from engine.quantization.scheme import Bits, Quantized

# Multiply-adds (of four rows at least) that pay for waking a team.
_WORTH_A_TEAM = 1_500_000


def pack(quantized: Quantized) -> Tensor:
    """The panels of a matrix, int8 or int16; its inputs are an even number."""
    values = quantized.values
    values = functional.pad(values, (0, 0, 0, -len(values) % PANEL))
    # [panel, pair of inputs, vector, 32 words: output, input]
    words = values.view(-1, 4, 16, values.shape[1] // 2, 2).permute(0, 3, 1, 2, 4).flatten(3)
    if quantized.bits == 4:
        codes = (words + 8).to(torch.int32)
        joined = codes[:, :, 0] | codes[:, :, 1] << 4 | codes[:, :, 2] << 8 | codes[:, :, 3] << 12
        return torch.where(joined >= 2**15, joined - 2**16, joined).to(torch.int16)
    wide = words.to(torch.int16)
    codes = torch.where(wide < 0, 0x80 | -wide, wide)
    codes = codes.view(*codes.shape[:2], 2, 2, 4, 8).transpose(3, 4)
    return torch.where(codes >= 2**7, codes - 2**8, codes).to(torch.int8).contiguous()


def pack_scales(quantized: Quantized) -> Tensor:
    """Float32 [panel, groups, 64]."""
    scales = quantized.scales
    scales = functional.pad(scales, (0, 0, 0, -len(scales) % PANEL))
    return scales.view(-1, PANEL, scales.shape[1]).transpose(1, 2).contiguous()


class Scratch:
    """Memory of the threads that multiply; all matrices of one model share it, one product after the other."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.rows = np.zeros(threads * SCRATCH_FLOATS, np.float32)
        self.unpacked = np.zeros(0, np.uint8)

    def make_room(self, inputs: int) -> None:
        """For a panel of so many inputs, for each thread."""
        size = self.threads * _unpacked_bytes(inputs)
        if len(self.unpacked) < size:
            self.unpacked = np.zeros(size, np.uint8)


def _unpacked_bytes(inputs: int) -> int:
    return inputs // 2 * PAIR_BYTES["uint16"]


class QuantizedPanels:
    """One matrix, for products with bfloat16."""

    def __init__(  # noqa: PLR0917
        self,
        quantized: Quantized,
        bias: Tensor | None,
        code: Kernel,
        result: torch.dtype,
        scratch: Scratch,
        arena: Arena,
    ) -> None:
        outputs, inputs = quantized.values.shape
        self._outputs = outputs
        self._result = result
        self.code = code
        self._scratch = scratch
        self._weights = outputs * inputs
        self._panels = arena.copy(pack(quantized))
        self._scales = pack_scales(quantized)
        self._bias = None if bias is None else functional.pad(bias.float(), (0, -outputs % PANEL))
        scratch.make_room(inputs)
        self._arguments = arguments = np.zeros(product.ARGUMENTS, np.int64)
        arguments[INPUTS] = inputs
        arguments[OUTPUTS] = outputs
        arguments[PANELS] = self._panels.data_ptr()
        arguments[PANEL_BYTES] = self._panels[0].nbytes
        arguments[BIAS] = 0 if self._bias is None else self._bias.data_ptr()
        arguments[SCRATCH] = scratch.rows.ctypes.data
        arguments[product.SCALES] = self._scales.data_ptr()
        arguments[product.GROUPS] = quantized.scales.shape[1]
        arguments[product.UNPACKED_STRIDE] = _unpacked_bytes(inputs)
        self._address = int(arguments.ctypes.data)
        arguments[COUNTER_AT] = self._address + 8 * COUNTER

    @property
    def arguments(self) -> Arguments:
        """See `engine.model.linear.CompiledProduct`."""
        self._arguments[product.UNPACKED] = self._scratch.unpacked.ctypes.data  # it grows while a model is loaded
        return self._arguments

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] → [rows, out]."""
        rows = len(x)
        out = torch.empty((rows, self._outputs), dtype=self._result)
        parts = self._scratch.threads if self._weights * max(rows, 4) >= _WORTH_A_TEAM else 1
        arguments = self.arguments
        arguments[ROWS] = rows
        arguments[X] = x.data_ptr()
        arguments[OUT] = out.data_ptr()
        arguments[PARTS] = parts
        arguments[COUNTER] = 0
        self.code.run(self._address, parts)
        return out


class QuantizedFactory:
    """Prepares the quantized matrices of one model."""

    def __init__(self, threads: int, arena: Arena) -> None:
        self._scratch = Scratch(threads)
        self._arena = arena
        self._codes: dict[tuple[Bits, bool], Kernel] = {}

    def make(self, quantized: Quantized, bias: Tensor | None, *, half: bool) -> QuantizedPanels:
        """The result is bfloat16 (`half`) or float32. The first of a kind compiles its kernel, or finds it on disk."""
        key = quantized.bits, half
        if key not in self._codes:
            self._codes[key] = quantized_code(bits=quantized.bits, result_half=half)
        result = torch.bfloat16 if half else torch.float32
        return QuantizedPanels(quantized, bias, self._codes[key], result, self._scratch, self._arena)
