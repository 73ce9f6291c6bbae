"""Sizes of decode batches that are captured as graphs, and padding to them. Pure."""

from bisect import bisect_left

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
