"""Many kernels in a row by one team of threads that wakes once.

Waking a sleeping team takes tens of microseconds, and a decode step has a hundred kernels of as many. So the team runs
all of them, and between two its threads wait for each other by spinning: for less than a microsecond where all have a
core of their own. A thread that waits longer offers its core.
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

# Places in the block of int64 arguments.
COUNT, TABLE, ARRIVED_AT, ARRIVED, ROWS = range(5)
ARGUMENTS = 8
# Places in a row of the table.
FUNCTION, BLOCK, ROWS_AT, PARTS_AT, COUNTER_AT = range(5)
COLUMNS = 5
"""The kernel, its block of arguments, and the addresses in it where the step's rows, the number of threads and a zero
for the counter go; a zero for what the kernel does not have."""
# Some ten microseconds.
_SPINS = 500
_WORD = np.int64(0)

Arguments = npt.NDArray[np.int64]


@fast_jit
def _store(at: int, value: int) -> None:
    if at != 0:
        carray(pointer(at, _WORD), 1)[0] = value


@fast_jit
def _meet(arrived_at: int, wanted: int) -> None:
    """Wait until the threads have arrived `wanted` times in all."""
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
    """Run every kernel of the table, one after the other, each on all threads. `ARRIVED` must be 0."""
    # The runtime may give fewer threads than were asked for.
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
            _meet(args[ARRIVED_AT], met)
        call_kernel(table[index, FUNCTION], table[index, BLOCK])
