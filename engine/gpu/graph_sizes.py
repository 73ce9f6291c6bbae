"""Sizes of decode batches that are captured as graphs, and padding to them. Pure."""

from bisect import bisect_left

import numpy as np

from engine.scheduling.batch import Batch

_STEP = 16


def captured_sizes(largest: int) -> tuple[int, ...]:
    """1, 2, 4, 8, 16, and then every 16; the last is `largest` itself.

    Padding adds rows to every product, so it stays below half of a batch, and below a sixth from 80 sequences on.
    """
    powers = [1, 2, 4, 8]
    return (*(size for size in (*powers, *range(_STEP, largest, _STEP)) if size < largest), largest)


def fitting_size(sizes: tuple[int, ...], sequences: int) -> int | None:
    """The smallest of `sizes`, ascending, that holds `sequences`; None: none does."""
    place = bisect_left(sizes, sequences)
    return sizes[place] if place < len(sizes) else None


def blank_decodes(sequences: int) -> Batch:
    """A batch of decodes within the scratch block, for capturing."""
    return Batch(
        token_ids=np.zeros(sequences, np.int64),
        positions=np.zeros(sequences, np.int64),
        slots=np.zeros(sequences, np.int64),
        query_starts=np.arange(sequences + 1, dtype=np.int32),
        context_lens=np.ones(sequences, np.int32),
        block_tables=np.zeros((sequences, 1), np.int32),
        samples=[],
    )
