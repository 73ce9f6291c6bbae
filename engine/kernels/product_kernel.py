"""Matrix products with constant weights on the CPU.

Weights are packed in panels of 64 outputs: float32 [panel, inputs, 64], or bfloat16 in pairs of inputs [panel, inputs /
2, 64, 2]. A row's result does not depend on the other rows, because each sum runs over the inputs in order.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.kernels.jit import carray, fast_jit
from engine.kernels.simd import (
    QUEUE_DONE,
    QUEUE_ENTRY,
    QUEUE_FIRST,
    QUEUE_PAGE_BYTES,
    fetch_add,
    narrow,
    pairs,
    pointer,
    size_of,
    team_size,
    thread_number,
    tile_x4,
)

# Indices into the block of int64 arguments of a kernel call.
ROWS, INPUTS, OUTPUTS, PARTS, X, PANELS, BIAS, OUT, SCRATCH, COUNTER, COUNTER_AT = range(11)
PANEL_BYTES, NEXT, NEXT_BYTES = range(11, 14)
"""NEXT, NEXT_BYTES: address of the next product's panels, and size of one; 0: unknown. A thread without further panels
here prefetches its first panel there."""
ARGUMENTS = 14
PANEL = 64
PAIR_BYTES = 4 * PANEL
GROUP = 6
"""Rows whose sums fit into registers next to four vectors of weights."""
SCRATCH_FLOATS = GROUP * PANEL + 16
"""Per thread: a group of rows of a panel; in float32 four rows, a panel's four vectors and a fetch queue."""
_ZERO = np.float32(0)

Arguments = npt.NDArray[np.int64]


@fast_jit
def write_rows(  # noqa: PLR0917
    args: Arguments, row: int, rows: int, panel: int, like: Any, scratch: Any
) -> None:
    """Add the bias, round and store the panel's results of some rows."""
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
def next_panel(args: Arguments, panels: int, following: int, part: int) -> Any:
    """Address of the thread's next panel, in this product or the one after it; 0: unknown."""
    if following < panels:
        return args[PANELS] + following * args[PANEL_BYTES]
    return args[NEXT] + part * args[NEXT_BYTES]


@fast_jit
def multiply_half(args: Arguments, like: Any) -> None:
    """Write x · weightᵀ + bias; x and weight are bfloat16, sums float32, the result has the type of `like`.

    A thread starts with the panel of its own number and takes further ones from a counter.
    """
    rows, inputs = args[ROWS], args[INPUTS]
    part, parts = (thread_number(), team_size()) if args[PARTS] > 1 else (0, 1)
    panels = (args[OUTPUTS] + PANEL - 1) // PANEL
    counter = args[COUNTER_AT]
    scratch_at = args[SCRATCH] + 4 * part * SCRATCH_FLOATS
    scratch = carray(pointer(scratch_at, _ZERO), SCRATCH_FLOATS)
    depth = inputs // 2
    # Groups of rows use the panel in turn, and each prefetches its share of the next panel.
    groups = (rows + GROUP - 1) // GROUP
    share = (PAIR_BYTES + groups - 1) // groups
    panel = part
    while panel < panels:
        following = fetch_add(counter) + parts
        b = args[PANELS] + panel * args[PANEL_BYTES]
        next_at = next_panel(args, panels, following, part)
        ahead = next_at if next_at != 0 else b
        row = 0
        while row < rows:
            left = rows - row
            # 7 rows are computed as 4 + 3, not 6 + 1: equally fast, and a single row would wait for memory.
            now = min(left, GROUP) if left <= GROUP or left >= 2 * GROUP else (left + 1) // 2
            a = args[X] + row * inputs * 2
            pairs(now, a, depth, b, scratch_at, depth, ahead, share)
            write_rows(args, row, now, panel, like, scratch)
            row += now
            ahead += depth * share
        panel = following


@fast_jit
def multiply_full(args: Arguments) -> None:
    """The same in float32 throughout."""
    rows, inputs = args[ROWS], args[INPUTS]
    part, parts = (thread_number(), team_size()) if args[PARTS] > 1 else (0, 1)
    panels = (args[OUTPUTS] + PANEL - 1) // PANEL
    counter = args[COUNTER_AT]
    scratch_at = args[SCRATCH] + 4 * part * SCRATCH_FLOATS
    scratch = carray(pointer(scratch_at, _ZERO), SCRATCH_FLOATS)
    list_at = scratch_at + 16 * PANEL
    vectors = carray(pointer(list_at, np.int64(0)), 4)
    queue_at = list_at + 8 * 4
    queue = carray(pointer(queue_at, np.int64(0)), QUEUE_FIRST + 2)
    queue[QUEUE_PAGE_BYTES] = args[PANEL_BYTES]
    queue[QUEUE_FIRST + 1] = queue_at
    panel = part
    while panel < panels:
        following = fetch_add(counter) + parts
        queue[QUEUE_ENTRY] = queue_at + 8 * QUEUE_FIRST
        queue[QUEUE_DONE] = 0
        next_at = next_panel(args, panels, following, part)
        queue[QUEUE_FIRST] = next_at if next_at != 0 else queue_at
        for v in range(4):
            vectors[v] = args[PANELS] + panel * args[PANEL_BYTES] + 64 * v
        for row in range(0, rows, 4):
            now = min(rows - row, 4)
            a = args[X] + row * inputs * 4
            tile_x4(now, a, inputs, list_at, PANEL, scratch_at, PANEL, inputs, 0, queue_at, _ZERO)
            write_rows(args, row, now, panel, _ZERO, scratch)
        panel = following
