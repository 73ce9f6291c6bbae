"""Paged attention on the CPU: pages are read in place through the block table; decode and prefill alike.

Online softmax over tiles of keys ("FlashAttention", algorithm 1), for the query heads of one KV head together. The
order of every sum depends on a query's position alone: a result is the same to the last bit, however a sequence was
cut into chunks and whatever shares the batch.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.jit import carray, fast_jit
from engine.simd import (
    exp_16,
    fetch_add,
    narrow,
    peak_16,
    pointer,
    size_of,
    thread_number,
    tile_1,
    tile_2,
    tile_4,
    tile_8,
    widen,
)

# Places in the block of int64 arguments that a kernel call gets.
(
    QKV, OUT, KEYS, VALUES, COS, SIN, Q_NORM, K_NORM,
    POSITIONS, SLOTS, STARTS, CONTEXTS, TABLES, TABLE_WIDTH,
    TILE_SEQUENCES, TILE_FIRSTS, TILES, TILE_TOKENS, COUNTER,
    ROWS, HEADS, KV_HEADS, HEAD_DIM, BLOCK_SIZE, WINDOW, PARTS, SCRATCH, SCRATCH_FLOATS, FLOATS,
) = range(29)  # fmt: skip
ARGUMENTS = 32
KEY_TILE = 128
"""Keys that are scored before the running maximum is brought up to date (at least one block)."""
_MINUS_INFINITY = np.float32(-np.inf)
_ZERO = np.float32(0)
_ONE = np.float32(1)

Arguments = npt.NDArray[np.int64]


def scratch_floats(rows: int, head_dim: int, block_size: int) -> int:
    """Float32 scratch for one thread whose tiles have at most `rows` rows."""
    return rows * (2 * head_dim + max(KEY_TILE, block_size) + 2) + head_dim


@fast_jit
def _rotated(  # noqa: PLR0917
    source: Any, cos: Any, sin: Any, norm: Any, eps: Any, has_norm: Any, scale: Any, target: Any, head_dim: int
) -> None:
    """Write target[0:head_dim] = rotate(norm(source)) · scale; halves are paired as Hugging Face lays them out."""
    half = head_dim // 2
    factor = _ONE
    if has_norm:
        total = _ZERO
        for d in range(head_dim):
            value = widen(source[d])
            total += value * value
        factor = np.float32(1.0) / np.sqrt(total / np.float32(head_dim) + eps)
    for d in range(half):
        first, second = widen(source[d]) * factor, widen(source[half + d]) * factor
        if has_norm:
            first *= norm[d]
            second *= norm[half + d]
        target[d] = (first * cos[d] - second * sin[d]) * scale
        target[half + d] = (second * cos[d] + first * sin[d]) * scale


@fast_jit
def write_kv(args: Arguments, like: Any) -> None:
    """Norm and rotate the new keys, and put keys and values into their pages. Threads share the rows."""
    head_dim, size, kv_heads, heads = args[HEAD_DIM], args[BLOCK_SIZE], args[KV_HEADS], args[HEADS]
    parts = args[PARTS]
    part = thread_number() if parts > 1 else 0
    begin, end = args[ROWS] * part // parts, args[ROWS] * (part + 1) // parts
    width = (heads + 2 * kv_heads) * head_dim
    page, half = head_dim * size, head_dim // 2
    positions = carray(pointer(args[POSITIONS], np.int64(0)), args[ROWS])
    slots = carray(pointer(args[SLOTS], np.int64(0)), args[ROWS])
    norm = carray(pointer(args[K_NORM], _ZERO), head_dim)
    eps = carray(pointer(args[FLOATS], _ZERO), 2)[1]
    rotated = carray(pointer(args[SCRATCH] + 4 * part * args[SCRATCH_FLOATS], _ZERO), head_dim)
    item = size_of(like)
    for row in range(begin, end):
        cos = carray(pointer(args[COS] + 4 * half * positions[row], _ZERO), half)
        sin = carray(pointer(args[SIN] + 4 * half * positions[row], _ZERO), half)
        block, offset = slots[row] // size, slots[row] % size
        for head in range(kv_heads):
            at = (block * kv_heads + head) * page * item
            source = args[QKV] + (row * width + (heads + head) * head_dim) * item
            key = carray(pointer(source, like), head_dim)
            _rotated(key, cos, sin, norm, eps, args[K_NORM] != 0, _ONE, rotated, head_dim)
            keys = carray(pointer(args[KEYS] + at, like), page)
            for d in range(head_dim):
                keys[d * size + offset] = narrow(rotated[d], like)
            value = carray(pointer(source + kv_heads * head_dim * item, like), head_dim)
            values = carray(pointer(args[VALUES] + at, like), page)
            for d in range(head_dim):
                values[offset * head_dim + d] = value[d]


@fast_jit
def _multiply(  # noqa: PLR0917
    a: int,
    a_stride: int,
    b: int,
    b_stride: int,
    c: int,
    c_stride: int,
    rows: int,
    depth: int,
    accumulate: int,
    like: Any,
) -> None:
    """`tile_*` over any number of rows."""
    row = 0
    while rows - row >= 8:
        tile_8(a + 4 * row * a_stride, a_stride, b, b_stride, c + 4 * row * c_stride, c_stride, depth, accumulate, like)
        row += 8
    if rows - row >= 4:
        tile_4(a + 4 * row * a_stride, a_stride, b, b_stride, c + 4 * row * c_stride, c_stride, depth, accumulate, like)
        row += 4
    if rows - row >= 2:
        tile_2(a + 4 * row * a_stride, a_stride, b, b_stride, c + 4 * row * c_stride, c_stride, depth, accumulate, like)
        row += 2
    if rows - row >= 1:
        tile_1(a + 4 * row * a_stride, a_stride, b, b_stride, c + 4 * row * c_stride, c_stride, depth, accumulate, like)


@fast_jit
def attend(args: Arguments, like: Any) -> None:
    """Attend for every (tile of queries, KV head); threads take the next one from a counter."""
    head_dim, size, kv_heads, heads = args[HEAD_DIM], args[BLOCK_SIZE], args[KV_HEADS], args[HEADS]
    part = thread_number() if args[PARTS] > 1 else 0
    group, half, page, item_bytes = heads // kv_heads, head_dim // 2, head_dim * size, size_of(like)
    width = (heads + 2 * kv_heads) * head_dim
    key_tile = max(KEY_TILE // size, 1) * size
    rows_max = args[TILE_TOKENS] * group
    sequences = carray(pointer(args[TILE_SEQUENCES], np.int32(0)), args[TILES])
    firsts = carray(pointer(args[TILE_FIRSTS], np.int32(0)), args[TILES])
    norm = carray(pointer(args[Q_NORM], _ZERO), head_dim)
    floats = carray(pointer(args[FLOATS], _ZERO), 2)
    scale, eps = floats[0], floats[1]
    q_at = args[SCRATCH] + 4 * part * args[SCRATCH_FLOATS] + 4 * head_dim
    sum_at = q_at + 4 * rows_max * head_dim
    score_at = sum_at + 4 * rows_max * head_dim
    sums = carray(pointer(sum_at, _ZERO), rows_max * head_dim)
    scores = carray(pointer(score_at, _ZERO), rows_max * key_tile)
    peaks = carray(pointer(score_at + 4 * rows_max * key_tile, _ZERO), rows_max)
    masses = carray(pointer(score_at + 4 * rows_max * (key_tile + 1), _ZERO), rows_max)
    while True:
        item = fetch_add(args[COUNTER])
        if item >= args[TILES] * kv_heads:
            return
        head, tile = item % kv_heads, item // kv_heads
        sequence, first = sequences[tile], firsts[tile]
        starts = carray(pointer(args[STARTS] + 4 * sequence, np.int32(0)), 2)
        context = carray(pointer(args[CONTEXTS] + 4 * sequence, np.int32(0)), 1)[0]
        table = carray(pointer(args[TABLES] + 4 * sequence * args[TABLE_WIDTH], np.int32(0)), args[TABLE_WIDTH])
        count = min(args[TILE_TOKENS], np.int64(starts[1] - starts[0] - first))
        base = np.int64(context) - (starts[1] - starts[0]) + first  # the position of the tile's first query
        row_at = np.int64(starts[0]) + first
        rows = count * group
        for token in range(count):
            cos = carray(pointer(args[COS] + 4 * half * (base + token), _ZERO), half)
            sin = carray(pointer(args[SIN] + 4 * half * (base + token), _ZERO), half)
            for g in range(group):
                at = (row_at + token) * width + (head * group + g) * head_dim
                source = carray(pointer(args[QKV] + at * item_bytes, like), head_dim)
                query = carray(pointer(q_at + 4 * (token * group + g) * head_dim, _ZERO), head_dim)
                _rotated(source, cos, sin, norm, eps, args[Q_NORM] != 0, scale, query, head_dim)
        for r in range(rows):
            peaks[r] = _MINUS_INFINITY
            masses[r] = _ZERO
        for at in range(rows * head_dim):
            sums[at] = _ZERO
        window = args[WINDOW]
        start = max(base - window + 1, 0) // key_tile * key_tile if window > 0 else 0
        end = base + count
        while start < end:
            seen = min(key_tile, end - start)
            for within in range(0, seen, size):
                block = np.int64(table[(start + within) // size])
                keys = args[KEYS] + (block * kv_heads + head) * page * item_bytes
                for column in range(0, size, 16):
                    _multiply(
                        q_at, head_dim, keys + column * item_bytes, size,
                        score_at + 4 * (within + column), key_tile, rows, head_dim, 0, like,
                    )  # fmt: skip
            for r in range(rows):
                position = base + r // group
                low = max(position - window + 1 - start, 0) if window > 0 else 0
                high = min(position + 1 - start, seen)
                line = r * key_tile
                if low >= high:
                    for j in range(seen):
                        scores[line + j] = _ZERO
                    continue
                low_16, high_16 = low // 16 * 16, (high + 15) // 16 * 16
                for j in range(low_16, low):
                    scores[line + j] = _MINUS_INFINITY
                for j in range(high, high_16):
                    scores[line + j] = _MINUS_INFINITY
                line_at = score_at + 4 * (line + low_16)
                vectors = (high_16 - low_16) // 16
                peak = max(peaks[r], peak_16(line_at, vectors))
                if peak > peaks[r]:
                    shrink = np.exp(peaks[r] - peak)
                    masses[r] *= shrink
                    for at in range(r * head_dim, (r + 1) * head_dim):
                        sums[at] *= shrink
                    peaks[r] = peak
                masses[r] += exp_16(line_at, vectors, peak)
                for j in range(low_16):
                    scores[line + j] = _ZERO
                for j in range(high_16, seen):
                    scores[line + j] = _ZERO
            for within in range(0, seen, size):
                block = np.int64(table[(start + within) // size])
                values = args[VALUES] + (block * kv_heads + head) * page * item_bytes
                depth = min(size, seen - within)
                for column in range(0, head_dim, 16):
                    _multiply(
                        score_at + 4 * within, key_tile, values + column * item_bytes, head_dim,
                        sum_at + 4 * column, head_dim, rows, depth, 1, like,
                    )  # fmt: skip
            start += key_tile
        for token in range(count):
            for g in range(group):
                r = token * group + g
                at = ((row_at + token) * heads + head * group + g) * head_dim
                out = carray(pointer(args[OUT] + at * item_bytes, like), head_dim)
                share = _ONE / masses[r]
                for d in range(head_dim):
                    out[d] = narrow(sums[r * head_dim + d] * share, like)
