"""Tensors in an arena keep their values and shapes, and do not overlap."""

import gc
from pathlib import Path

import pytest
import torch

from engine.kernels import arena
from engine.kernels.arena import Arena, huge_zeros


def test_copies_are_equal_contiguous_and_apart() -> None:
    place = Arena()
    wide = torch.arange(24, dtype=torch.bfloat16).view(4, 6)
    first, second = place.copy(wide.T), place.copy(torch.ones(5))
    assert torch.equal(first, wide.T)
    assert first.is_contiguous()
    first.zero_()
    assert torch.equal(second, torch.ones(5))
    assert second.data_ptr() % 64 == 0


def test_a_tensor_outlives_its_arena_and_may_be_larger_than_a_piece() -> None:
    place = Arena()
    large = place.copy(torch.ones(arena._CHUNK_BYTES // 4 + 3))
    small = place.copy(torch.full((3,), 2.0))
    del place
    gc.collect()
    assert large.sum() == len(large)
    assert torch.equal(small, torch.full((3,), 2.0))
    assert large.data_ptr() % (2 << 20) == 0


SMAPS = Path("/proc/self/smaps")


@pytest.mark.skipif(not SMAPS.exists(), reason="only Linux tells how memory is mapped")
def test_the_system_is_asked_for_huge_pages_in_memory_that_may_have_them() -> None:
    weights = Arena().copy(torch.ones(3))
    pool = huge_zeros((4, 8 << 20), torch.uint8)
    assert not pool.any()
    for tensor in (weights, pool):
        flags = _flags(tensor.data_ptr())
        assert "hg" in flags, "advised to be huge"
        assert "sh" not in flags, "shared memory gets none"


def _flags(address: int) -> list[str]:
    """`VmFlags` (proc(5)) of the mapping that contains the address."""
    here = False
    for line in SMAPS.read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            start, end = (int(part, 16) for part in words[0].split("-"))
            here = start <= address < end
        elif here and words[0] == "VmFlags:":
            return words[1:]
    return []
