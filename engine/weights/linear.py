"""Matrix products with constant weights: compiled kernels on packed panels on the CPU, torch elsewhere."""

from collections.abc import Callable, Collection
from copy import copy
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.kernels import product_kernel as product
from engine.kernels.arena import Arena
from engine.kernels.compiled import compile_missing, product_code
from engine.kernels.packed_product import PackedProduct
from engine.kernels.quantized_simd import has_quantized_products
from engine.kernels.simd import has_bfloat16_products
from engine.kernels.tiles import check_places, in_tiles, tile_rows
from engine.quantization.linear import QuantizedFactory
from engine.quantization.scheme import Quantized, dequantize

Linear = Callable[[Tensor], Tensor]
"""[rows, in] → [rows, out]."""


class LinearFactory:
    """Builds `Linear`s for one device and dtype."""

    def __init__(self, device: torch.device, dtype: torch.dtype, threads: int, *, invariant: bool = False) -> None:
        """`invariant`: torch's products, too, must not depend on the number of rows."""
        self.tile = tile_rows(device) if invariant else 0
        """Rows per tile of products that torch computes, see `engine.kernels.tiles`; 0: no tiles."""
        self.device = device
        self.dtype = dtype
        self._threads = threads
        self._arena = Arena()
        self._half = dtype == torch.bfloat16
        self.own = device.type == "cpu" and (dtype == torch.float32 or (self._half and has_bfloat16_products()))
        """Whether products use the compiled kernels, whose results per row do not depend on the number of rows."""
        ours = self.own and self._half and has_quantized_products()
        self._quantized = QuantizedFactory(threads, self._arena) if ours else None

    def with_own_arena(self) -> "LinearFactory":
        """A copy that allocates from an arena of its own: its products can be freed, and used in another thread."""
        other = copy(self)
        other._arena = Arena()  # noqa: SLF001  (its own kind)
        return other

    def compile(
        self, progress: Callable[[str], None] = lambda _: None, *, paged: str | None = None, bits: Collection[int] = ()
    ) -> None:
        """Compile the kernels that the model needs, if it uses them; call before the first `make`.

        `paged`, `bits`: see `compile_missing`.
        """
        if self.own:
            compile_missing(progress, half=self._half, paged=paged, bits=bits if self._quantized is not None else ())
            self._code = product_code(half=self._half, result_half=True)
            self._code_to_full = product_code(half=self._half, result_half=False)

    def make(self, weight: Tensor | Quantized, bias: Tensor | None = None, *, head: bool = False) -> Linear:
        """For `weight` [out, in] and `bias` [out]; the result has the compute dtype.

        For a `head` it is float32 where that is free, since bfloat16 is too coarse for margins. Quantized weights are
        dequantized once if the processor has no instructions for them.
        """
        if isinstance(weight, Quantized):
            if self._quantized is not None:
                return self._quantized.make(weight, bias, half=not head)
            weight = dequantize(weight).to(self.dtype)
        if not self.own:
            return _plain(weight, bias, self.device, self.tile)
        # The kernels take inputs in pairs, so an odd number is padded with zero.
        odd = weight.shape[1] % 2
        packed = self._packed(functional.pad(weight, (0, odd)), bias, head=head)
        return (lambda x: packed(functional.pad(x, (0, 1)))) if odd else packed

    def _packed(self, weight: Tensor, bias: Tensor | None, *, head: bool) -> PackedProduct:
        outputs, inputs = weight.shape
        panels = functional.pad(weight, (0, 0, 0, -outputs % product.PANEL)).view(-1, product.PANEL, inputs)
        if weight.dtype == torch.bfloat16:
            panels = panels.view(-1, product.PANEL, inputs // 2, 2)
        code, result = (self._code_to_full, torch.float32) if head else (self._code, weight.dtype)
        scratch = np.zeros(self._threads * product.SCRATCH_FLOATS, np.float32)
        panels = self._arena.copy(panels.transpose(1, 2))
        return PackedProduct(code, (outputs, inputs), panels, bias, result, scratch, self._threads)


def _plain(weight: Tensor, bias: Tensor | None, device: torch.device, tile: int) -> Linear:
    weight = weight.to(device)
    bias = None if bias is None else bias.to(device)

    linear = partial(functional.linear, weight=weight, bias=bias)
    if not tile:
        return linear
    check_places(linear, weight, tile)
    return partial(in_tiles, linear, rows=tile)
