"""Matrix products with quantized weights on the CPU; see `engine.kernels.product_kernel` for the others.

A row's result does not depend on the other rows: few rows unpack the weights in registers, many rows unpack them once
into memory, and either way the same numbers are summed in the same order.
"""

from typing import Any

import numpy as np

from engine.kernels.jit import carray, fast_jit
from engine.kernels.product_kernel import (
    COUNTER_AT,
    INPUTS,
    OUTPUTS,
    PANEL,
    PANEL_BYTES,
    PANELS,
    PARTS,
    ROWS,
    SCRATCH,
    SCRATCH_FLOATS,
    Arguments,
    X,
    next_panel,
    write_rows,
)
from engine.kernels.quantized_simd import pair_bytes, scaled, unpack
from engine.kernels.simd import fetch_add, pointer, team_size, thread_number

# Indices after those that the argument block shares with `engine.kernels.product_kernel`.
SCALES, GROUPS, UNPACKED, UNPACKED_STRIDE = range(14, 18)
ARGUMENTS = 18
IN_REGISTERS = 8
"""Up to this many rows, unpacking again per four rows is cheaper than writing the panel to memory."""
_ZERO = np.float32(0)
_HALF = np.uint16(0)


@fast_jit
def multiply_packed(args: Arguments, packed: Any, like: Any) -> None:
    """Write x · weightᵀ + bias; x is bfloat16, weights are integers, sums float32, the result has the type of `like`.

    A thread starts with the panel of its own number and takes further ones from a counter, one panel ahead.
    """
    rows, inputs, groups = args[ROWS], args[INPUTS], args[GROUPS]
    part, parts = (thread_number(), team_size()) if args[PARTS] > 1 else (0, 1)
    panels = (args[OUTPUTS] + PANEL - 1) // PANEL
    counter = args[COUNTER_AT]
    scratch_at = args[SCRATCH] + 4 * part * SCRATCH_FLOATS
    scratch = carray(pointer(scratch_at, _ZERO), SCRATCH_FLOATS)
    unpacked = args[UNPACKED] + part * args[UNPACKED_STRIDE]
    pairs = inputs // 2
    depth = pairs // groups
    panel = part
    while panel < panels:
        following = fetch_add(counter) + parts
        b = args[PANELS] + panel * args[PANEL_BYTES]
        next_at = next_panel(args, panels, following, part)
        ahead, stride = (next_at, pair_bytes(packed)) if next_at != 0 else (b, 0)
        scales = args[SCALES] + 4 * panel * groups * PANEL
        if rows > IN_REGISTERS:
            unpack(b, pairs, unpacked, packed)
        for row in range(0, rows, 4):
            now = min(rows - row, 4)
            a = args[X] + row * inputs * 2
            if rows > IN_REGISTERS:
                scaled(now, a, pairs, unpacked, scales, scratch_at, groups, depth, ahead, stride, _HALF)
            else:
                scaled(now, a, pairs, b, scales, scratch_at, groups, depth, ahead, stride, packed)
            ahead, stride = b, 0
            write_rows(args, row, now, panel, like, scratch)
        panel = following
