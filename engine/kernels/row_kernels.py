"""Row-wise CPU kernels of the decoder: residual sum with RMS norm, and gated activation."""

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.kernels.jit import carray, fast_jit
from engine.kernels.simd import narrow, pointer, silu_16, size_of, thread_number, widen

# Indices into the block of int64 arguments of a kernel call.
ROWS, WIDTH, PARTS, RESIDUAL, ADDED, WEIGHT, OUT, EPS = range(8)
GATE_UP = ADDED
ARGUMENTS = 8
_ZERO = np.float32(0)

Arguments = npt.NDArray[np.int64]


@fast_jit
def add_norm(args: Arguments, like: Any) -> None:
    """Add and norm: residual += added (unless its address is 0); out = residual / rms(residual) · weight."""
    parts, width = args[PARTS], args[WIDTH]
    part = thread_number() if parts > 1 else 0
    weight = carray(pointer(args[WEIGHT], _ZERO), width)
    eps = carray(pointer(args[EPS], _ZERO), 1)[0]
    for row in range(args[ROWS] * part // parts, args[ROWS] * (part + 1) // parts):
        residual = carray(pointer(args[RESIDUAL] + 4 * row * width, _ZERO), width)
        out = carray(pointer(args[OUT] + row * width * size_of(like), like), width)
        total = _ZERO
        if args[ADDED] != 0:
            added = carray(pointer(args[ADDED] + row * width * size_of(like), like), width)
            for d in range(width):
                value = residual[d] + widen(added[d])
                residual[d] = value
                total += value * value
        else:
            for d in range(width):
                total += residual[d] * residual[d]
        factor = np.float32(1.0) / np.sqrt(total / np.float32(width) + eps)
        for d in range(width):
            out[d] = narrow(residual[d] * factor * weight[d], like)


@fast_jit
def gate(args: Arguments, like: Any) -> None:
    """Write out[row] = silu(gate_up[row, :width]) · gate_up[row, width:]."""
    parts, width = args[PARTS], args[WIDTH]
    part = thread_number() if parts > 1 else 0
    for row in range(args[ROWS] * part // parts, args[ROWS] * (part + 1) // parts):
        source = args[GATE_UP] + 2 * row * width * size_of(like)
        out = args[OUT] + row * width * size_of(like)
        silu_16(source, source + width * size_of(like), out, width // 16, like)
