"""A matrix product with constant weights, packed in panels, by a compiled kernel."""

import numpy as np
import torch
from torch import Tensor

from engine.kernels import product_kernel as product
from engine.kernels.compiled import Kernel

# Multiply-adds from which waking the thread team pays. Up to four rows count as four: there reading the weights
# dominates.
_TEAM_THRESHOLD = 1_500_000


class PackedProduct:
    """One weight matrix. It is a single kernel, so that it can be part of an `engine.forward.decoder_program`."""

    def __init__(  # noqa: PLR0917
        self,
        code: Kernel,
        shape: tuple[int, int],
        panels: Tensor,
        bias: Tensor | None,
        result: torch.dtype,
        scratch: np.ndarray[tuple[int], np.dtype[np.float32]],
        threads: int,
        words: int = product.ARGUMENTS,
    ) -> None:
        """`shape`: (outputs, inputs). `scratch`: memory of the threads. `words`: number of the kernel's arguments."""
        self.code = code
        self._outputs = shape[0]
        self._weights = shape[0] * shape[1]
        self._result = result
        self._threads = threads
        bias = None if bias is None else bias.float().contiguous()
        self._held = panels, bias, scratch  # the arguments hold addresses only
        self._arguments = arguments = np.zeros(words, np.int64)
        arguments[product.OUTPUTS], arguments[product.INPUTS] = shape
        arguments[product.PANELS] = panels.data_ptr()
        arguments[product.PANEL_BYTES] = panels[0].nbytes
        arguments[product.BIAS] = 0 if bias is None else bias.data_ptr()
        arguments[product.SCRATCH] = scratch.ctypes.data
        self._address = int(arguments.ctypes.data)
        arguments[product.COUNTER_AT] = self._address + 8 * product.COUNTER

    @property
    def arguments(self) -> product.Arguments:
        """See `engine.kernels.product_kernel`; a call sets X, OUT, ROWS, PARTS and COUNTER."""
        return self._arguments

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] → [rows, out]."""
        rows = len(x)
        out = torch.empty((rows, self._outputs), dtype=self._result)
        parts = self._threads if self._weights * max(rows, 4) >= _TEAM_THRESHOLD else 1
        arguments = self.arguments
        arguments[product.ROWS] = rows
        arguments[product.X] = x.data_ptr()
        arguments[product.OUT] = out.data_ptr()
        arguments[product.PARTS] = parts
        arguments[product.COUNTER] = 0
        self.code.run(self._address, parts)
        return out
