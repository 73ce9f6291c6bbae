"""A fetch queue prefetches its pages 128 bytes at a time, stays at its end, and changes no result."""

import numpy as np
import pytest
from numba import njit

from engine.kernels.simd import QUEUE_DONE, QUEUE_ENTRY, QUEUE_FIRST, QUEUE_PAGE_BYTES, tile_x1

PAGE = 256
PAGES = 3


@njit
def multiply(a, rights, out, depth, queue):
    left, right, to, ahead = a.ctypes.data, rights.ctypes.data, out.ctypes.data, queue.ctypes.data
    tile_x1(2, left, a.shape[1], right, 16, to, 16, depth, 0, ahead, np.float32(0))


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 6, 7, 40])
def test_it_goes_on_where_it_stopped_and_ends(depth: int) -> None:
    rng = np.random.default_rng(depth)
    a, b = rng.standard_normal((2, depth), np.float32), rng.standard_normal((depth, 16), np.float32)
    memory = np.zeros(PAGE * PAGES, np.uint8)
    queue = np.zeros(QUEUE_FIRST + PAGES + 1, np.int64)
    at = queue.ctypes.data
    queue[QUEUE_ENTRY] = at + 8 * QUEUE_FIRST
    queue[QUEUE_PAGE_BYTES] = PAGE
    queue[QUEUE_FIRST:] = [*(memory.ctypes.data + PAGE * page for page in range(PAGES)), at]
    for turn in (1, 2):
        out = np.empty((2, 16), np.float32)
        multiply(a, np.array([b.ctypes.data]), out, depth, queue)
        np.testing.assert_allclose(out, a @ b, rtol=1e-5, atol=1e-5)
        asked = min(128 * depth * turn, PAGE * PAGES)
        assert (queue[QUEUE_ENTRY] - at) // 8 - QUEUE_FIRST == asked // PAGE
        assert queue[QUEUE_DONE] == asked % PAGE
