"""Memory in huge pages for data read in full by every step, to avoid the page walks of 4 KiB pages."""

import contextlib
import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

_HUGE_BYTES = 2 << 20
_CHUNK_BYTES = 64 << 20
_LINE_BYTES = 64


class Arena:
    """Allocates tensors from large chunks of memory, which live as long as any of their tensors."""

    def __init__(self) -> None:
        self._chunk = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def copy(self, tensor: Tensor) -> Tensor:
        """A contiguous copy of `tensor` in the arena."""
        size = tensor.numel() * tensor.element_size()
        if self._used + size > len(self._chunk):
            self._chunk, self._used = _huge(max(size, _CHUNK_BYTES)), 0
        place = self._chunk[self._used : self._used + size].view(tensor.dtype).view(tensor.shape)
        self._used = -(-(self._used + size) // _LINE_BYTES) * _LINE_BYTES
        return place.copy_(tensor)


def huge_zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros; pages are allocated by the system when they are first written."""
    return _huge(math.prod(shape) * dtype.itemsize).view(dtype).view(*shape)


def _huge(size: int) -> Tensor:
    """Uninitialized bytes aligned to a huge page; ordinary pages if the system has no huge ones."""
    # Python's default, a shared mapping, gets huge pages on few systems.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    memory = mmap.mmap(-1, size + _HUGE_BYTES, **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(memory, dtype=torch.uint8)
    start = -whole.data_ptr() % _HUGE_BYTES
    return whole[start : start + size]
