"""What the attention kernels of a GPU are to do in one step, as one row of integers: pure arithmetic.

Sequences with one new token are decodes: their context is cut into splits, each a piece of work
of its own, so that one long sequence fills the device. All others are cut into tiles of a few query tokens.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from engine.errors import EngineError
from engine.scheduling.batch import Batch

Ints = npt.NDArray[np.int32]

_LEAST_SPAN = 256
_MOST_SPLITS = 32
_TILE_ROWS = 64
"""Query rows (tokens times query heads of one KV head) of a tile."""


def padded(size: int) -> int:
    """The next power of two: what a Triton block can hold."""
    return 1 << (size - 1).bit_length()


def spans_of(contexts: Ints) -> Ints:
    """Tokens of one split of each context: as few as leave it at most 32 of them.

    It depends on the context alone, so a decode's sums do not depend on its company.
    """
    least = np.maximum(-(-contexts // (_LEAST_SPAN * _MOST_SPLITS)), 1)
    return (_LEAST_SPAN << np.ceil(np.log2(least)).astype(np.int32)).astype(np.int32)


def most_pieces(sequences: int, longest: int) -> int:
    """The most splits that a step can have."""
    return sequences * min(-(-longest // _LEAST_SPAN), _MOST_SPLITS)


def partial_bytes(pieces: int, heads: int, head_dim: int) -> int:
    """What the results of splits take until they are joined: weighted values, a maximum and a sum for each head."""
    return pieces * heads * (head_dim + 2) * 4


class Layout(msgspec.Struct, frozen=True):
    """Where each array of a step's work lies in the row, with room for the largest step."""

    rows: int
    """Rows of the largest flat batch."""
    sequences: int
    table_width: int
    """Blocks of the longest sequence."""
    block_size: int
    group: int
    """Query heads of a KV head."""

    @property
    def tile_tokens(self) -> int:
        """Query tokens of a prefill tile."""
        return max(_TILE_ROWS // padded(self.group), 1)

    @property
    def pieces(self) -> int:
        """See `most_pieces`."""
        return most_pieces(self.sequences, self.table_width * self.block_size)

    @property
    def sizes(self) -> dict[str, int]:
        """Integers of each array, in order.

        counts: decodes, their splits, prefill tiles. positions, slots: of each row. starts: first row of each
        sequence. contexts: tokens of each; spans: of one split of each. decodes: sequences with one row; first_pieces:
        where the splits of each begin. piece_sequences, piece_splits: each split. tile_sequences, tile_firsts: each
        tile and its first token.
        """
        return {
            "counts": 4,
            "positions": self.rows,
            "slots": self.rows,
            "starts": self.sequences + 1,
            "contexts": self.sequences,
            "spans": self.sequences,
            "decodes": self.sequences,
            "first_pieces": self.sequences + 1,
            "piece_sequences": self.pieces,
            "piece_splits": self.pieces,
            "tile_sequences": self.rows,
            "tile_firsts": self.rows,
        }

    def views(self, flat: Ints) -> dict[str, Ints]:
        """The arrays inside `flat` [total]."""
        found, at = {}, 0
        for name, size in self.sizes.items():
            found[name] = flat[at : at + size]
            at += size
        return found

    @property
    def total(self) -> int:
        """Integers of the whole row."""
        return sum(self.sizes.values())


class WorkCounts(msgspec.Struct, frozen=True):
    """How much of it there is."""

    decodes: int
    pieces: int
    tiles: int


def write_work(batch: Batch, rows: int, layout: Layout, flat: Ints) -> WorkCounts:
    """Write a step of `rows` rows, those behind the batch's own being padding that is never attended, into `flat`.

    Raises:
        EngineError: the batch is larger than the layout.
    """
    tokens, sequences = len(batch.token_ids), len(batch.context_lens)
    width = batch.block_tables.shape[1]
    if rows > layout.rows or sequences > layout.sequences or width > layout.table_width:
        raise EngineError(
            "batch_too_large",
            f"a batch of {rows} rows, {sequences} sequences and {width} blocks does not fit into buffers for "
            f"{layout.rows}, {layout.sequences} and {layout.table_width}; this is a defect",
        )
    views = layout.views(flat)
    views["positions"][:rows] = 0
    views["positions"][:tokens] = batch.positions
    views["slots"][:rows] = 0
    views["slots"][:tokens] = batch.slots
    views["starts"][: sequences + 1] = batch.query_starts
    views["contexts"][:sequences] = batch.context_lens
    lengths = np.diff(batch.query_starts)
    decodes = np.flatnonzero(lengths == 1)
    spans = spans_of(batch.context_lens)
    views["spans"][:sequences] = spans
    splits = -(-batch.context_lens[decodes] // spans[decodes])
    first, pieces = _cut(decodes, splits)
    views["decodes"][: len(decodes)] = decodes
    views["first_pieces"][: len(decodes) + 1] = first
    views["piece_sequences"][: len(pieces[0])], views["piece_splits"][: len(pieces[0])] = pieces
    prefills = np.flatnonzero(lengths > 1)
    _, tiles = _cut(prefills, -(-lengths[prefills] // layout.tile_tokens))
    views["tile_sequences"][: len(tiles[0])] = tiles[0]
    views["tile_firsts"][: len(tiles[0])] = tiles[1] * layout.tile_tokens
    views["counts"][:3] = len(decodes), len(pieces[0]), len(tiles[0])
    return WorkCounts(len(decodes), len(pieces[0]), len(tiles[0]))


def _cut(owners: npt.NDArray[np.int64], counts: npt.NDArray[np.int32]) -> tuple[Ints, tuple[Ints, Ints]]:
    """Where the pieces of each owner begin, and of each piece the owner and its number there."""
    first = np.zeros(len(owners) + 1, np.int32)
    np.cumsum(counts, out=first[1:])
    numbers = np.arange(first[-1], dtype=np.int32) - np.repeat(first[:-1], counts)
    return first, (np.repeat(owners, counts).astype(np.int32), numbers)
