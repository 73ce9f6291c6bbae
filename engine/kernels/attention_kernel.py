"""Paged attention on the CPU, for decode and prefill: reads pages in place through the block table.

Online softmax over tiles of keys (Dao et al., "FlashAttention", algorithm 1), for all query heads of a KV head
together. The order of every sum depends on a query's position only, so results are bit-identical for any chunking and
any batch.

Pages hold float32, bfloat16, or int8 with a float32 scale per token and head. A chunk reads back its own keys and
values as rounded in the pages, so that int8 keeps this property.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.kernels.jit import carray, fast_jit
from engine.kernels.simd import (
    QUEUE_DONE,
    QUEUE_ENTRY,
    QUEUE_FIRST,
    QUEUE_PAGE_BYTES,
    exp_16,
    fetch_add,
    narrow,
    peak_16,
    pointer,
    prefetch,
    size_of,
    thread_number,
    tile_x1,
    tile_x4,
    widen,
)

# Indices into the block of int64 arguments of a kernel call; those that change per step come first.
ROWS, TILES, PARTS, STARTS, CONTEXTS, TABLES, TABLE_WIDTH = range(7)
(
    QKV, OUT, KEYS, VALUES, COS, SIN, Q_NORM, K_NORM,
    POSITIONS, SLOTS, TILE_SEQUENCES, TILE_FIRSTS, TILE_TOKENS, COUNTER,
    HEADS, KV_HEADS, HEAD_DIM, BLOCK_SIZE, WINDOW, SCRATCH, SCRATCH_FLOATS, FLOATS,
    KEY_SCALES, VALUE_SCALES,
) = range(7, 31)  # fmt: skip
ARGUMENTS = 32
KEY_TILE = 128
"""Keys scored between updates of the running maximum (at least one block)."""
# Up to this many query rows, loading a tile of keys takes longer than computing with it.
_STREAMED_ROWS = 8
_MINUS_INFINITY = np.float32(-np.inf)
_ZERO = np.float32(0)
_ONE = np.float32(1)

Arguments = npt.NDArray[np.int64]


def scratch_floats(rows: int, head_dim: int, block_size: int) -> int:
    """Float32 elements of scratch memory per thread, for tiles of at most `rows` query rows."""
    keys = max(KEY_TILE, block_size)
    words = max(keys, head_dim) // 16 + QUEUE_FIRST + keys // block_size + 1
    return rows * (2 * head_dim + keys + 2) + head_dim + 2 * words


@fast_jit
def _rotated(  # noqa: PLR0917
    source: Any, cos: Any, sin: Any, norm: Any, eps: Any, has_norm: Any, scale: Any, target: Any, head_dim: int
) -> None:
    """Write target[0:head_dim] = rotate(norm(source)) · scale; pairs are half a head apart, as in Hugging Face."""
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
def write_kv(args: Arguments, like: Any, paged: Any) -> None:
    """Norm and rotate the new keys, and write keys and values to their pages (`paged`: element type).

    Rows are divided among the threads.
    """
    head_dim, size, kv_heads, heads = args[HEAD_DIM], args[BLOCK_SIZE], args[KV_HEADS], args[HEADS]
    parts = args[PARTS]
    part = thread_number() if parts > 1 else 0
    begin, end = args[ROWS] * part // parts, args[ROWS] * (part + 1) // parts
    width = (heads + 2 * kv_heads) * head_dim
    page = head_dim * size
    slots = carray(pointer(args[SLOTS], np.int64(0)), args[ROWS])
    numbers = carray(pointer(args[SCRATCH] + 4 * part * args[SCRATCH_FLOATS], _ZERO), head_dim)
    item = size_of(like)
    for row in range(begin, end):
        block, offset = slots[row] // size, slots[row] % size
        for head in range(kv_heads):
            source = args[QKV] + (row * width + (heads + head) * head_dim) * item
            _rotated_key(args, row, carray(pointer(source, like), head_dim), numbers)
            at = block * kv_heads + head
            keys = carray(pointer(args[KEYS] + at * page * size_of(paged), paged), page)
            factor = _factor(numbers, head_dim, args[KEY_SCALES], at * size + offset)
            for d in range(head_dim):
                keys[d * size + offset] = narrow(numbers[d] * factor, paged)
            value = carray(pointer(source + kv_heads * head_dim * item, like), head_dim)
            for d in range(head_dim):
                numbers[d] = widen(value[d])
            values = carray(pointer(args[VALUES] + at * page * size_of(paged), paged), page)
            factor = _factor(numbers, head_dim, args[VALUE_SCALES], at * size + offset)
            for d in range(head_dim):
                values[offset * head_dim + d] = narrow(numbers[d] * factor, paged)


@fast_jit
def _rotated_key(args: Arguments, row: int, key: Any, target: Any) -> None:
    head_dim, half = args[HEAD_DIM], args[HEAD_DIM] // 2
    position = carray(pointer(args[POSITIONS], np.int64(0)), args[ROWS])[row]
    cos = carray(pointer(args[COS] + 4 * half * position, _ZERO), half)
    sin = carray(pointer(args[SIN] + 4 * half * position, _ZERO), half)
    norm = carray(pointer(args[K_NORM], _ZERO), head_dim)
    eps = carray(pointer(args[FLOATS], _ZERO), 2)[1]
    _rotated(key, cos, sin, norm, eps, args[K_NORM] != 0, _ONE, target, head_dim)


@fast_jit
def _factor(numbers: Any, count: int, scales: int, at: int) -> Any:
    """Of int8 pages: store the scale that maps a head's largest absolute element to 127; return its inverse. Else 1."""
    if scales == 0:
        return _ONE
    largest = _ZERO
    for d in range(count):
        largest = max(largest, abs(numbers[d]))
    carray(pointer(scales + 4 * at, _ZERO), 1)[0] = largest / np.float32(127)
    return np.float32(127) / largest if largest > 0 else _ZERO


@fast_jit
def _multiply(  # noqa: PLR0917
    a: int,
    a_stride: int,
    b_list: int,
    b_stride: int,
    c: int,
    c_stride: int,
    rows: int,
    vectors: int,
    depth: int,
    accumulate: int,
    queue: int,
    like: Any,
) -> None:
    """Apply `tile_xV` to any number of rows and vectors. The order of each sum does not depend on the partition."""
    done = 0
    while done < rows:
        a_at, c_at = a + 4 * done * a_stride, c + 4 * done * c_stride
        now = min(rows - done, 4)
        v = 0
        while v + 4 <= vectors:
            tile_x4(
                now, a_at, a_stride, b_list + 8 * v, b_stride, c_at + 64 * v, c_stride, depth, accumulate, queue, like
            )
            v += 4
        while v < vectors:
            tile_x1(
                now, a_at, a_stride, b_list + 8 * v, b_stride, c_at + 64 * v, c_stride, depth, accumulate, queue, like
            )
            v += 1
        done += now


@fast_jit
def _queue(  # noqa: PLR0917
    at: int, pages: int, scales: int, args: Arguments, table: Any, head: int, start: int, count: int, like: Any
) -> None:
    """Set up the fetch queue, so that the following products prefetch the pages of tokens start : start + count.

    Pages are scattered, so the hardware prefetcher misses each of them, and decode is bound by memory.
    """
    size, bytes_a_page = args[BLOCK_SIZE], args[HEAD_DIM] * args[BLOCK_SIZE] * size_of(like)
    entries = (count + size - 1) // size if count > 0 else 0
    queue = carray(pointer(at, np.int64(0)), QUEUE_FIRST + entries + 1)
    queue[QUEUE_ENTRY] = at + 8 * QUEUE_FIRST
    queue[QUEUE_DONE] = 0
    queue[QUEUE_PAGE_BYTES] = bytes_a_page
    for entry in range(entries):
        place = np.int64(table[start // size + entry]) * args[KV_HEADS] + head
        queue[QUEUE_FIRST + entry] = pages + place * bytes_a_page
        if scales != 0:
            prefetch(scales + place * size * 4)
    queue[QUEUE_FIRST + entries] = at


@fast_jit
def _queue_first(  # noqa: PLR0917
    at: int, args: Arguments, sequence: int, head: int, key_tile: int, like: Any
) -> None:
    """Queue the first tile of keys of a decode."""
    context = int(carray(pointer(args[CONTEXTS] + 4 * sequence, np.int32(0)), 1)[0])
    table = carray(pointer(args[TABLES] + 4 * sequence * args[TABLE_WIDTH], np.int32(0)), args[TABLE_WIDTH])
    start = max(context - args[WINDOW], 0) // key_tile * key_tile if args[WINDOW] > 0 else 0
    _queue(at, args[KEYS], args[KEY_SCALES], args, table, head, start, min(key_tile, context - start), like)


@fast_jit
def _scaled(  # noqa: PLR0917
    scales: int, args: Arguments, table: Any, head: int, start: int, count: int, score_at: int, stride: int, rows: int
) -> None:
    """Multiply column j of the scores [rows, stride] by the scale of token start + j."""
    size = args[BLOCK_SIZE]
    for within in range(0, count, size):
        block = np.int64(table[(start + within) // size])
        factors = carray(pointer(scales + (block * args[KV_HEADS] + head) * size * 4, _ZERO), size)
        for r in range(rows):
            line = carray(pointer(score_at + 4 * (r * stride + within), _ZERO), size)
            for j in range(size):
                line[j] *= factors[j]


@fast_jit
def attend(args: Arguments, like: Any, paged: Any) -> None:
    """Attention for every (tile of queries, KV head); threads take items from a counter, one item ahead."""
    head_dim, size, kv_heads, heads = args[HEAD_DIM], args[BLOCK_SIZE], args[KV_HEADS], args[HEADS]
    part = thread_number() if args[PARTS] > 1 else 0
    group, half, page = heads // kv_heads, head_dim // 2, head_dim * size
    item_bytes, paged_bytes = size_of(like), size_of(paged)
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
    pages_at = (
        args[SCRATCH] + 4 * part * args[SCRATCH_FLOATS] + 4 * rows_max * (2 * head_dim + key_tile + 2) + 4 * head_dim
    )
    pages = carray(pointer(pages_at, np.int64(0)), max(key_tile, head_dim) // 16)
    queue_at = pages_at + max(key_tile, head_dim) // 2
    _queue(queue_at, 0, 0, args, pages, 0, 0, 0, paged)
    items = args[TILES] * kv_heads
    item = fetch_add(args[COUNTER])
    while item < items:
        following = fetch_add(args[COUNTER])
        head, tile = item % kv_heads, item // kv_heads
        sequence, first = sequences[tile], firsts[tile]
        starts = carray(pointer(args[STARTS] + 4 * sequence, np.int32(0)), 2)
        context = carray(pointer(args[CONTEXTS] + 4 * sequence, np.int32(0)), 1)[0]
        table = carray(pointer(args[TABLES] + 4 * sequence * args[TABLE_WIDTH], np.int32(0)), args[TABLE_WIDTH])
        count = min(args[TILE_TOKENS], np.int64(starts[1] - starts[0] - first))
        base = np.int64(context) - (starts[1] - starts[0]) + first  # position of the tile's first query
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
            if rows <= _STREAMED_ROWS:
                _queue(queue_at, args[VALUES], args[VALUE_SCALES], args, table, head, start, seen, paged)
            vectors = 0
            for within in range(0, seen, size):
                block = np.int64(table[(start + within) // size])
                keys = args[KEYS] + (block * kv_heads + head) * page * paged_bytes
                for column in range(0, size, 16):
                    pages[vectors] = keys + column * paged_bytes
                    vectors += 1
            _multiply(q_at, head_dim, pages_at, size, score_at, key_tile, rows, vectors, head_dim, 0, queue_at, paged)
            if args[KEY_SCALES] != 0:
                _scaled(args[KEY_SCALES], args, table, head, start, seen, score_at, key_tile, rows)
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
                length = (high_16 - low_16) // 16
                peak = max(peaks[r], peak_16(line_at, length))
                if peak > peaks[r]:
                    shrink = np.exp(peaks[r] - peak)
                    masses[r] *= shrink
                    for at in range(r * head_dim, (r + 1) * head_dim):
                        sums[at] *= shrink
                    peaks[r] = peak
                masses[r] += exp_16(line_at, length, peak)
                for j in range(low_16):
                    scores[line + j] = _ZERO
                for j in range(high_16, seen):
                    scores[line + j] = _ZERO
            if rows <= _STREAMED_ROWS:
                if start + key_tile < end:
                    ahead, next_start = min(key_tile, end - start - key_tile), start + key_tile
                    _queue(queue_at, args[KEYS], args[KEY_SCALES], args, table, head, next_start, ahead, paged)
                elif following < items:
                    _queue_first(
                        queue_at, args, sequences[following // kv_heads], following % kv_heads, key_tile, paged
                    )
            if args[VALUE_SCALES] != 0:
                _scaled(args[VALUE_SCALES], args, table, head, start, seen, score_at, key_tile, rows)
            for within in range(0, seen, size):
                block = np.int64(table[(start + within) // size])
                values = args[VALUES] + (block * kv_heads + head) * page * paged_bytes
                depth = min(size, seen - within)
                for vector in range(head_dim // 16):
                    pages[vector] = values + 16 * vector * paged_bytes
                at = score_at + 4 * within
                _multiply(
                    at, key_tile, pages_at, head_dim, sum_at, head_dim, rows, head_dim // 16, depth, 1, queue_at, paged
                )
            start += key_tile
        for token in range(count):
            for g in range(group):
                r = token * group + g
                at = ((row_at + token) * heads + head * group + g) * head_dim
                out = carray(pointer(args[OUT] + at * item_bytes, like), head_dim)
                share = _ONE / masses[r]
                for d in range(head_dim):
                    out[d] = narrow(sums[r * head_dim + d] * share, like)
        item = following
