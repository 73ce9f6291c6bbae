import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.gpu.attention_work import Layout, max_splits, padded, partial_bytes, spans_of, write_work
from engine.scheduling.batch import Batch

LAYOUT = Layout(rows=400, sequences=6, table_width=40, block_size=16, group=3)


def batch_of(sequences: list[tuple[int, int]]) -> Batch:
    """(new tokens, context) of each sequence."""
    lengths = [new for new, _ in sequences]
    positions = np.concatenate([np.arange(context - new, context) for new, context in sequences])
    return Batch(
        token_ids=np.zeros(sum(lengths), np.int64),
        positions=positions,
        slots=positions + 7,
        query_starts=np.cumsum([0, *lengths], dtype=np.int32),
        context_lens=np.array([context for _, context in sequences], np.int32),
        block_tables=np.zeros((len(sequences), 40), np.int32),
        samples=[],
    )


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 580)).map(lambda it: (it[0], it[0] + it[1])),
        min_size=1,
        max_size=6,
    )
)
def test_every_token_has_its_piece_of_work_and_no_other(sequences: list[tuple[int, int]]) -> None:
    flat = np.full(LAYOUT.total, -1, np.int32)
    batch = batch_of(sequences)
    rows = len(batch.token_ids) + 3
    counts = write_work(batch, rows, LAYOUT, flat)
    views = LAYOUT.views(flat)
    assert views["counts"][:3].tolist() == [counts.decodes, counts.pieces, counts.tiles]
    assert views["positions"][:rows].tolist() == [*batch.positions, 0, 0, 0]
    assert views["slots"][:rows].tolist() == [*batch.slots, 0, 0, 0], "padding is written to the scratch block"
    decodes = [index for index, (new, _) in enumerate(sequences) if new == 1]
    assert views["decodes"][: counts.decodes].tolist() == decodes
    for place, index in enumerate(decodes):
        first, end = views["first_pieces"][place : place + 2]
        assert views["piece_sequences"][first:end].tolist() == [index] * -(-sequences[index][1] // 256)
        assert views["piece_splits"][first:end].tolist() == list(range(end - first))
    seen = [
        (sequence, token)
        for sequence, start in zip(
            views["tile_sequences"][: counts.tiles].tolist(), views["tile_firsts"][: counts.tiles].tolist(), strict=True
        )
        for token in range(start, min(start + LAYOUT.tile_tokens, sequences[sequence][0]))
    ]
    assert seen == [(index, token) for index, (new, _) in enumerate(sequences) if new > 1 for token in range(new)]


def test_a_batch_that_is_too_large_is_refused() -> None:
    flat = np.zeros(LAYOUT.total, np.int32)
    for sequences in ([(1, 1)] * 7, [(401, 401)]):
        with pytest.raises(EngineError, match="does not fit"):
            write_work(batch_of(sequences), sum(new for new, _ in sequences), LAYOUT, flat)


@given(st.integers(1, 2**20))
def test_a_context_has_few_splits_and_short_ones(context: int) -> None:
    (span,) = spans_of(np.array([context], np.int32)).tolist()
    assert -(-context // span) <= max_splits(1, context) <= 32
    assert span == 256 or -(-context // (span // 2)) > 32
    assert span == padded(span), "a multiple of every block of columns"


def test_partial_results_are_counted() -> None:
    assert max_splits(64, 2048) == 64 * 8
    assert max_splits(256, 131_072) == 256 * 32
    assert partial_bytes(256 * 32, 32, 128) == 136_314_880


def test_the_next_power_of_two() -> None:
    assert [padded(size) for size in (1, 2, 3, 48, 64, 65)] == [1, 2, 4, 64, 64, 128]
