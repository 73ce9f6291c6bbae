"""The block tables of all running sequences in one matrix."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from engine.errors import EngineError


class BlockTable:
    """[rows, blocks] int32, one row per running sequence; unused entries are 0, the scratch block.

    Rows are updated when blocks change, so that a step gathers its tables with one copy instead of building lists.
    """

    def __init__(self, rows: int, blocks: int) -> None:
        self._table = np.zeros((rows, blocks), np.int32)
        self._free = list(range(rows - 1, -1, -1))

    @property
    def free_rows(self) -> int:
        return len(self._free)

    def take(self) -> int:
        """A row of zeros."""
        return self._free.pop()

    def give_back(self, row: int) -> None:
        """Clear and free the row of a sequence that has left the batch."""
        self._table[row] = 0
        self._free.append(row)

    def write(self, row: int, start: int, blocks: Sequence[int]) -> None:
        self._table[row, start : start + len(blocks)] = blocks

    def cut(self, row: int, length: int) -> None:
        """Clear all but the first `length` entries of `row`."""
        self._table[row, length:] = 0

    def gather(self, rows: Sequence[int], width: int) -> npt.NDArray[np.int32]:
        """A copy [len(rows), width]."""
        return self._table[rows, :width]

    def check_integrity(self, expected: Mapping[int, Sequence[int]]) -> None:
        """Raises EngineError if the rows in use are not those of `expected`, or do not have these blocks."""
        table = np.zeros_like(self._table)
        for row, blocks in expected.items():
            table[row, : len(blocks)] = blocks
        rows = sorted((*self._free, *expected))
        if rows != list(range(len(self._table))) or not np.array_equal(table, self._table):
            raise EngineError("engine_integrity", "block tables differ from their sequences' blocks; this is a defect")
