"""The block tables of the running sequences, as one matrix that steps take their rows from."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from engine.errors import EngineError


class BlockTable:
    """[rows, blocks] int32, one row a running sequence; unused entries are 0, the scratch block.

    Rows change when blocks do, so that a step copies what it needs in one move instead of building lists anew.
    """

    def __init__(self, rows: int, blocks: int) -> None:
        self._table = np.zeros((rows, blocks), np.int32)
        self._free = list(range(rows - 1, -1, -1))

    @property
    def free_rows(self) -> int:
        """Rows that `take` could give out now."""
        return len(self._free)

    def take(self) -> int:
        """A row of zeros."""
        return self._free.pop()

    def give_back(self, row: int) -> None:
        """The sequence in `row` has left."""
        self._table[row] = 0
        self._free.append(row)

    def write(self, row: int, start: int, blocks: Sequence[int]) -> None:
        """Put `blocks` into `row` from entry `start` on."""
        self._table[row, start : start + len(blocks)] = blocks

    def cut(self, row: int, length: int) -> None:
        """Only the first `length` blocks of `row` stay."""
        self._table[row, length:] = 0

    def gather(self, rows: Sequence[int], width: int) -> npt.NDArray[np.int32]:
        """[len(rows), width] a copy."""
        return self._table[rows, :width]

    def check_integrity(self, expected: Mapping[int, Sequence[int]]) -> None:
        """Compare the matrix with `expected`, the blocks of every row in use.

        Raises:
            EngineError: they differ, or a row is both free and in use.
        """
        table = np.zeros_like(self._table)
        for row, blocks in expected.items():
            table[row, : len(blocks)] = blocks
        rows = sorted((*self._free, *expected))
        if rows != list(range(len(self._table))) or not np.array_equal(table, self._table):
            raise EngineError("engine_integrity", "block tables differ from their sequences' blocks; this is a defect")
