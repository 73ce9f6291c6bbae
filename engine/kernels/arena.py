"""Memory for weights in huge pages: a step reads all of it once, and with pages of 4 KiB that is a page walk each."""

import contextlib
import mmap

import torch
from torch import Tensor

_HUGE_BYTES = 2 << 20
_CHUNK_BYTES = 64 << 20
_LINE_BYTES = 64


class Arena:
    """Hands out tensors that lie one behind the other in large pieces of memory, which live as long as any of them."""

    def __init__(self) -> None:
        self._chunk = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def copy(self, tensor: Tensor) -> Tensor:
        """The same numbers, contiguous."""
        size = tensor.numel() * tensor.element_size()
        if self._used + size > len(self._chunk):
            self._chunk, self._used = _huge(max(size, _CHUNK_BYTES)), 0
        place = self._chunk[self._used : self._used + size].view(tensor.dtype).view(tensor.shape)
        self._used = -(-(self._used + size) // _LINE_BYTES) * _LINE_BYTES
        return place.copy_(tensor)


def _huge(size: int) -> Tensor:
    """Untouched bytes that begin at a huge page; ordinary ones where the system has none to give."""
    memory = mmap.mmap(-1, size + _HUGE_BYTES)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(memory, dtype=torch.uint8)
    start = -whole.data_ptr() % _HUGE_BYTES
    return whole[start : start + size]
