"""Products with fixed weights on the CPU.

Weights lie packed in panels of 64 outputs: float32 [panel, inputs, 64], or bfloat16 in pairs of inputs
[panel, inputs / 2, 64, 2]. A row's result does not depend on the rows
beside it, on any processor: each sum runs over the inputs in order.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.kernels.jit import carray, fast_jit
from engine.kernels.simd import (
    fetch_add,
    narrow,
    pairs_1,
    pairs_2,
    pairs_3,
    pairs_4,
    pairs_5,
    pairs_6,
    pointer,
    size_of,
    thread_number,
    tile_1x4,
    tile_2x4,
    tile_3x4,
    tile_4x4,
)

# Places in the block of int64 arguments that a kernel call gets.
ROWS, INPUTS, OUTPUTS, PARTS, X, PANELS, BIAS, OUT, SCRATCH, COUNTER, COUNTER_AT = range(11)
ARGUMENTS = 12
PANEL = 64
GROUP = 6
"""Rows whose sums fit into the registers beside four vectors of weights."""
SCRATCH_FLOATS = GROUP * PANEL + 16
"""For one thread: a group of rows of a panel, and the addresses of its four vectors."""
_ZERO = np.float32(0)

Arguments = npt.NDArray[np.int64]


@fast_jit
def write_rows(  # noqa: PLR0917
    args: Arguments, row: int, rows: int, panel: int, like: Any, scratch: Any
) -> None:
    """Bias, round and store the panel's results of some rows."""
    outputs = args[OUTPUTS]
    first = panel * PANEL
    count = min(PANEL, outputs - first)
    bias = carray(pointer(args[BIAS] + 4 * first, _ZERO), PANEL)
    for r in range(rows):
        out = carray(pointer(args[OUT] + ((row + r) * outputs + first) * size_of(like), like), count)
        if args[BIAS] != 0:
            for column in range(count):
                scratch[r * PANEL + column] += bias[column]
        for column in range(count):
            out[column] = narrow(scratch[r * PANEL + column], like)


@fast_jit
def multiply_half(args: Arguments, like: Any) -> None:
    """Write x · weightᵀ + bias; x and weight are bfloat16, sums float32, the result is like `like`.

    Threads take the next panel from a counter.
    """
    rows, inputs = args[ROWS], args[INPUTS]
    part = thread_number() if args[PARTS] > 1 else 0
    panels = (args[OUTPUTS] + PANEL - 1) // PANEL
    counter = args[COUNTER_AT]
    scratch_at = args[SCRATCH] + 4 * part * SCRATCH_FLOATS
    scratch = carray(pointer(scratch_at, _ZERO), SCRATCH_FLOATS)
    depth = inputs // 2
    panel_bytes = PANEL * inputs * 2
    panel = fetch_add(counter)
    while panel < panels:
        following = fetch_add(counter)
        b = args[PANELS] + panel * panel_bytes
        # Groups of rows go through the panel one after the other; the first two fetch half of the next one each.
        ahead = args[PANELS] + following * panel_bytes if following < panels else b
        row = 0
        while row < rows:
            left = rows - row
            # 6 and 1 would take as long as 4 and 3, and the last one alone would wait for memory.
            now = min(left, GROUP) if left <= GROUP or left >= 2 * GROUP else (left + 1) // 2
            a = args[X] + row * inputs * 2
            if now == 6:
                pairs_6(a, depth, b, scratch_at, depth, ahead)
            elif now == 5:
                pairs_5(a, depth, b, scratch_at, depth, ahead)
            elif now == 4:
                pairs_4(a, depth, b, scratch_at, depth, ahead)
            elif now == 3:
                pairs_3(a, depth, b, scratch_at, depth, ahead)
            elif now == 2:
                pairs_2(a, depth, b, scratch_at, depth, ahead)
            else:
                pairs_1(a, depth, b, scratch_at, depth, ahead)
            write_rows(args, row, now, panel, like, scratch)
            row += now
            ahead = ahead + 128 if row <= GROUP else b
        panel = following


@fast_jit
def multiply_full(args: Arguments) -> None:
    """Write x · weightᵀ + bias in float32. Threads take the next panel from a counter."""
    rows, inputs = args[ROWS], args[INPUTS]
    part = thread_number() if args[PARTS] > 1 else 0
    panels = (args[OUTPUTS] + PANEL - 1) // PANEL
    counter = args[COUNTER_AT]
    scratch_at = args[SCRATCH] + 4 * part * SCRATCH_FLOATS
    scratch = carray(pointer(scratch_at, _ZERO), SCRATCH_FLOATS)
    list_at = scratch_at + 16 * PANEL
    vectors = carray(pointer(list_at, np.int64(0)), 4)
    while True:
        panel = fetch_add(counter)
        if panel >= panels:
            return
        for v in range(4):
            vectors[v] = args[PANELS] + 4 * (panel * PANEL * inputs + 16 * v)
        for row in range(0, rows, 4):
            now = min(rows - row, 4)
            a = args[X] + row * inputs * 4
            if now == 4:
                tile_4x4(a, inputs, list_at, PANEL, scratch_at, PANEL, inputs, 0, _ZERO)
            elif now == 3:
                tile_3x4(a, inputs, list_at, PANEL, scratch_at, PANEL, inputs, 0, _ZERO)
            elif now == 2:
                tile_2x4(a, inputs, list_at, PANEL, scratch_at, PANEL, inputs, 0, _ZERO)
            else:
                tile_1x4(a, inputs, list_at, PANEL, scratch_at, PANEL, inputs, 0, _ZERO)
            write_rows(args, row, now, panel, _ZERO, scratch)
