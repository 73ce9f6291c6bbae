"""Matrix product with one quantized matrix, packed for `engine.kernels.quantized_product`.

A panel of 64 outputs is four vectors of 16. int4: 16-bit words [panel, inputs / 2, 16 outputs, 2 inputs]; nibble v of a
word, counted from the lowest, holds value + 8 of vector v. int8: bytes in sign-magnitude form [panel, inputs / 2, 2, 4,
2, 8]: vectors in pairs, 8 bytes of either in turn, which is the processor's unpack order.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.kernels import product_kernel as plain
from engine.kernels import quantized_product as product
from engine.kernels.arena import Arena
from engine.kernels.compiled import Kernel, quantized_code
from engine.kernels.packed_product import PackedProduct
from engine.kernels.quantized_simd import PAIR_BYTES
from engine.quantization.scheme import Bits, Quantized


def pack(quantized: Quantized) -> Tensor:
    """Pack a matrix with an even number of inputs: int16 panels for int4, int8 panels for int8 (see the module)."""
    values = quantized.values
    values = functional.pad(values, (0, 0, 0, -len(values) % plain.PANEL))
    # [panel, pair of inputs, vector, 32 elements: output, input]
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
    scales = functional.pad(scales, (0, 0, 0, -len(scales) % plain.PANEL))
    return scales.view(-1, plain.PANEL, scales.shape[1]).transpose(1, 2).contiguous()


class Scratch:
    """Scratch memory of the product threads, shared by all matrices of a model, whose products run one at a time."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.rows = np.zeros(threads * plain.SCRATCH_FLOATS, np.float32)
        self.unpacked = np.zeros(0, np.uint8)

    def make_room(self, inputs: int) -> None:
        """Grow the buffers so that every thread can unpack a panel of `inputs` inputs."""
        size = self.threads * _unpacked_bytes(inputs)
        if len(self.unpacked) < size:
            self.unpacked = np.zeros(size, np.uint8)


def _unpacked_bytes(inputs: int) -> int:
    return inputs // 2 * PAIR_BYTES["uint16"]


class QuantizedPanels(PackedProduct):
    """One quantized matrix, for products with bfloat16 inputs."""

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
        panels = arena.copy(pack(quantized))
        shape, threads = (outputs, inputs), scratch.threads
        super().__init__(code, shape, panels, bias, result, scratch.rows, threads, product.ARGUMENTS)
        self._scratch = scratch
        self._scales = pack_scales(quantized)
        scratch.make_room(inputs)
        self._arguments[product.SCALES] = self._scales.data_ptr()
        self._arguments[product.GROUPS] = quantized.scales.shape[1]
        self._arguments[product.UNPACKED_STRIDE] = _unpacked_bytes(inputs)

    @property
    def arguments(self) -> plain.Arguments:
        self._arguments[product.UNPACKED] = self._scratch.unpacked.ctypes.data  # reallocated while a model is loaded
        return self._arguments


class QuantizedFactory:
    """Builds the quantized products of one model."""

    def __init__(self, threads: int, arena: Arena) -> None:
        self._scratch = Scratch(threads)
        self._arena = arena
        self._codes: dict[tuple[Bits, bool], Kernel] = {}

    def make(self, quantized: Quantized, bias: Tensor | None, *, half: bool) -> QuantizedPanels:
        """The result is bfloat16 (`half`) or float32. The first call of a kind compiles its kernel or loads it."""
        key = quantized.bits, half
        if key not in self._codes:
            self._codes[key] = quantized_code(bits=quantized.bits, result_half=half)
        result = torch.bfloat16 if half else torch.float32
        return QuantizedPanels(quantized, bias, self._codes[key], result, self._scratch, self._arena)
