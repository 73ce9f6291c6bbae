"""Runs a sequence of kernels on one team of threads that is woken once.

Waking a team takes tens of microseconds, as long as many a kernel, and a decode step has a hundred of them. So the team
runs all of them, with a spin barrier in between, which takes less than a microsecond if every thread has a core. A
thread that spins longer yields its core.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.kernels.jit import carray, fast_jit
from engine.kernels.simd import (
    call_kernel,
    fetch_add,
    let_others_run,
    load_shared,
    pointer,
    relax,
    team_size,
    thread_number,
)

# Indices into the block of int64 arguments.
COUNT, TABLE, ARRIVED_AT, ARRIVED, ROWS = range(5)
ARGUMENTS = 8
# Columns of the table.
FUNCTION, BLOCK, ROWS_AT, PARTS_AT, COUNTER_AT = range(5)
COLUMNS = 5
"""The kernel, its argument block, and the addresses in it for the step's rows, the number of threads, and a zeroed
counter; 0 for what the kernel does not have."""
# About ten microseconds.
_SPINS = 500
_WORD = np.int64(0)

Arguments = npt.NDArray[np.int64]


@fast_jit
def _store(at: int, value: int) -> None:
    if at != 0:
        carray(pointer(at, _WORD), 1)[0] = value


@fast_jit
def _barrier(arrived_at: int, wanted: int) -> None:
    """Barrier: wait until the total number of arrivals reaches `wanted`."""
    fetch_add(arrived_at)
    spins = 0
    while load_shared(arrived_at) < wanted:
        spins += 1
        if spins < _SPINS:
            relax()
        else:
            let_others_run()


@fast_jit
def run_program(args: Arguments) -> None:
    """Run every kernel of the table in order, each on all threads. `ARRIVED` must be 0."""
    # The OpenMP runtime may provide fewer threads than requested.
    count, parts = args[COUNT], team_size()
    part = thread_number()
    table: Any = carray(pointer(args[TABLE], _WORD), (count, COLUMNS))
    if part == 0:
        for index in range(count):
            _store(table[index, ROWS_AT], args[ROWS])
            _store(table[index, PARTS_AT], parts)
            _store(table[index, COUNTER_AT], 0)
    met = 0
    for index in range(count):
        if parts > 1:
            met += parts
            _barrier(args[ARRIVED_AT], met)
        call_kernel(table[index, FUNCTION], table[index, BLOCK])
