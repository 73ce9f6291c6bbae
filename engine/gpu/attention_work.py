"""Work list of the GPU attention kernels for one step, encoded in one row of integers. Pure.

Sequences with one new token are decodes: their context is divided into splits that are computed in parallel and then
joined (as in Flash-Decoding), so that a long sequence occupies the whole device. All other sequences are divided into
tiles of query tokens.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from engine.errors import EngineError
from engine.scheduling.batch import Batch

Ints = npt.NDArray[np.int32]

_LEAST_SPAN = 256
_MAX_SPLITS = 32
_TILE_ROWS = 64
"""Query rows (tokens times query heads of one KV head) of a tile."""


def padded(size: int) -> int:
    """The next power of two, the size of a Triton block."""
    return 1 << (size - 1).bit_length()


def spans_of(contexts: Ints) -> Ints:
    """Tokens per split for each context: the shortest that gives at most 32 splits.

    A function of the context's length only, so that the order of sums does not depend on the batch.
    """
    least = np.maximum(-(-contexts // (_LEAST_SPAN * _MAX_SPLITS)), 1)
    return (_LEAST_SPAN << np.ceil(np.log2(least)).astype(np.int32)).astype(np.int32)


def max_splits(sequences: int, longest: int) -> int:
    """Maximum number of splits in a step."""
    return sequences * min(-(-longest // _LEAST_SPAN), _MAX_SPLITS)


def partial_bytes(pieces: int, heads: int, head_dim: int) -> int:
    """Bytes of the partial results of splits: per head a weighted sum, a maximum and a total."""
    return pieces * heads * (head_dim + 2) * 4


class Layout(msgspec.Struct, frozen=True):
    """Layout of a step's arrays within one row of integers, sized for the largest step."""

    rows: int
    """Rows of the largest flat batch."""
    sequences: int
    table_width: int
    """Blocks of the longest sequence."""
    block_size: int
    group: int
    """Query heads per KV head."""

    @property
    def tile_tokens(self) -> int:
        """Query tokens of a prefill tile."""
        return max(_TILE_ROWS // padded(self.group), 1)

    @property
    def pieces(self) -> int:
        return max_splits(self.sequences, self.table_width * self.block_size)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each array, in order.

        counts: numbers of decodes, their splits, prefill tiles. positions, slots: per row. starts: first row per
        sequence. contexts: tokens per sequence; spans: tokens per split. decodes: the sequences with one row;
        first_pieces: index of the first split per decode. piece_sequences, piece_splits: sequence and index of each
        split. tile_sequences, tile_firsts: sequence and first token of each tile.
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
        """The arrays as views of `flat` [total]."""
        views, at = {}, 0
        for name, size in self.sizes.items():
            views[name] = flat[at : at + size]
            at += size
        return views

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


class WorkCounts(msgspec.Struct, frozen=True):
    """Numbers of work items in a step."""

    decodes: int
    pieces: int
    tiles: int


def write_work(batch: Batch, rows: int, layout: Layout, flat: Ints) -> WorkCounts:
    """Write the work of a step into `flat`; rows from the batch's own to `rows` are padding, not attended to.

    Raises EngineError: the batch is larger than the layout.
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
    """The index of each owner's first piece, and per piece its owner and its number within the owner."""
    first = np.zeros(len(owners) + 1, np.int32)
    np.cumsum(counts, out=first[1:])
    numbers = np.arange(first[-1], dtype=np.int32) - np.repeat(first[:-1], counts)
    return first, (np.repeat(owners, counts).astype(np.int32), numbers)
