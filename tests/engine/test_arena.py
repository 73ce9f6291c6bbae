"""Weights in large pieces of memory keep their numbers, their shapes, and themselves."""

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


SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(not SETTING.exists() or "[never]" in SETTING.read_text(), reason="this system gives no huge pages")
def test_what_is_written_lies_in_huge_pages() -> None:
    before = _huge_kib()
    weights = Arena().copy(torch.ones(32 << 20, dtype=torch.uint8))
    pool = huge_zeros((4, 8 << 20), torch.uint8)
    assert not pool.any()
    pool.fill_(1)
    # The system may be short of them; mostly it is not.
    assert _huge_kib() - before >= (weights.nbytes + pool.nbytes) // 1024 // 2


def _huge_kib() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))
