"""Weights in large pieces of memory keep their numbers, their shapes, and themselves."""

import gc

import torch

from engine.kernels import arena
from engine.kernels.arena import Arena


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
