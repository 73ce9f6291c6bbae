"""Triton kernels for everything between the matrix products. All pointers are to contiguous tensors.

Sizes in capitals are compile-time constants. Blocks are powers of two, with masks for narrower heads or rows. All sums
are float32, in an order that depends on a token's position only.
"""

import triton
import triton.language as tl


@triton.jit
def _tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def add_norm(residual, added, weight, out, width, eps, ADD: tl.constexpr, BLOCK: tl.constexpr):
    """One row per program: residual += added (if ADD), out = RMS norm of residual · weight."""
    row = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, BLOCK)
    inside = at < width
    x = tl.load(residual + row + at, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        x += tl.load(added + row + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(residual + row + at, x, mask=inside)
    scale = tl.rsqrt(tl.sum(x * x, axis=0) / width + eps)
    y = x * scale * tl.load(weight + at, mask=inside, other=0.0)
    tl.store(out + row + at, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def gate(gate_up, out, width, GELU: tl.constexpr, BLOCK: tl.constexpr):
    """Program (row, part): activation(gate) · up of a row of `gate_up` [rows, 2 · width]."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    x = tl.load(gate_up + row * 2 * width + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * width + width + at, mask=inside, other=0.0).to(tl.float32)
    if GELU:
        active = 0.5 * x * (1 + _tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    else:
        active = x * tl.sigmoid(x)
    tl.store(out + row * width + at, (active * up).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _rotated(x, other, norm, at, partner, cosine, sine, eps, inside, NORM: tl.constexpr, HEAD_DIM: tl.constexpr):
    """Norm and rotate heads `x` [HEADS, DIMS]; `other` holds for each element its rotation partner."""
    if NORM:
        scale = tl.rsqrt(tl.sum(x * x, axis=1) / HEAD_DIM + eps)[:, None]
        x = x * scale * tl.load(norm + at, mask=inside, other=0.0)[None, :]
        other = other * scale * tl.load(norm + partner, mask=inside, other=0.0)[None, :]
    return x * cosine[None, :] + other * sine[None, :]


@triton.jit
def write_kv(
    qkv,
    queries,
    keys,
    values,
    q_norm,
    k_norm,
    cosines,
    sines,
    positions,
    slots,
    eps,
    NORM: tl.constexpr,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    ROTARY: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
):
    """Program (row, KV head): norm and rotate key and queries, write key and value to their page."""
    GROUP: tl.constexpr = HEADS // KV_HEADS
    HALF: tl.constexpr = ROTARY // 2
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    at = tl.arange(0, DIM_BLOCK)
    inside = at < HEAD_DIM
    rotates = at < ROTARY
    partner = tl.where(rotates, tl.where(at < HALF, at + HALF, at - HALF), at)
    angle = tl.load(positions + row).to(tl.int64) * HALF + tl.where(at < HALF, at, at - HALF)
    cosine = tl.load(cosines + angle, mask=rotates, other=1.0)
    sine = tl.load(sines + angle, mask=rotates, other=0.0)
    sine = tl.where(at < HALF, -sine, sine)
    group = tl.arange(0, GROUP_BLOCK)
    mine = (group < GROUP)[:, None] & inside[None, :]
    q_at = row * (HEADS + 2 * KV_HEADS) * HEAD_DIM + (head * GROUP + group)[:, None] * HEAD_DIM
    q = tl.load(qkv + q_at + at[None, :], mask=mine, other=0.0).to(tl.float32)
    q_other = tl.load(qkv + q_at + partner[None, :], mask=mine, other=0.0).to(tl.float32)
    q = _rotated(q, q_other, q_norm, at, partner, cosine, sine, eps, inside, NORM, HEAD_DIM)
    q_out = row * HEADS * HEAD_DIM + (head * GROUP + group)[:, None] * HEAD_DIM + at[None, :]
    tl.store(queries + q_out, q.to(queries.dtype.element_ty), mask=mine)
    k_at = row * (HEADS + 2 * KV_HEADS) * HEAD_DIM + (HEADS + head) * HEAD_DIM
    k = tl.load(qkv + k_at + at, mask=inside, other=0.0).to(tl.float32)[None, :]
    k_other = tl.load(qkv + k_at + partner, mask=inside, other=0.0).to(tl.float32)[None, :]
    k = _rotated(k, k_other, k_norm, at, partner, cosine, sine, eps, inside, NORM, HEAD_DIM)
    v = tl.load(qkv + k_at + KV_HEADS * HEAD_DIM + at, mask=inside, other=0.0)[None, :]
    slot = tl.load(slots + row).to(tl.int64)
    page = ((slot // BLOCK_SIZE) * KV_HEADS + head) * BLOCK_SIZE + slot % BLOCK_SIZE
    kv_out = page * HEAD_DIM + at[None, :]
    tl.store(keys + kv_out, k.to(keys.dtype.element_ty), mask=inside[None, :])
    tl.store(values + kv_out, v.to(values.dtype.element_ty), mask=inside[None, :])


@triton.jit
def _look(
    q,
    last,
    highest,
    total,
    sums,
    start,
    end,
    table,
    keys,
    values,
    head,
    scale,
    cap,
    WINDOW: tl.constexpr,
    CAP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Attention of rows `q` [ROWS, DIM_BLOCK] over tokens start : end, up to the positions `last` [ROWS].

    One pass of online softmax (Dao, "FlashAttention-2", section 3.1): running maximum, total, weighted values. WIDE:
    multiply in float32, because the interpreter does not support bfloat16 products.
    """
    at = tl.arange(0, DIM_BLOCK)
    for first in range(start, end, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        there = column < end
        block = tl.load(table + column // BLOCK_SIZE, mask=there, other=0).to(tl.int64)
        page = (block * KV_HEADS + head) * BLOCK_SIZE + column % BLOCK_SIZE
        offsets = page[:, None] * HEAD_DIM + at[None, :]
        mask = there[:, None] & (at < HEAD_DIM)[None, :]
        k = tl.load(keys + offsets, mask=mask, other=0.0)
        v = tl.load(values + offsets, mask=mask, other=0.0)
        if WIDE:
            k = k.to(tl.float32)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        if CAP:
            scores = _tanh(scores / cap) * cap
        seen = there[None, :] & (column[None, :] <= last[:, None])
        if WINDOW:
            seen = seen & (column[None, :] > last[:, None] - WINDOW)
        scores = tl.where(seen, scores, float("-inf"))
        peak = tl.maximum(highest, tl.max(scores, axis=1))
        # A row that has attended to no token yet keeps its zeros; -inf minus -inf would be NaN.
        safe = tl.where(peak == float("-inf"), 0.0, peak)
        weights = tl.exp(scores - safe[:, None])
        fade = tl.exp(highest - safe)
        total = total * fade + tl.sum(weights, axis=1)
        weights = weights.to(v.dtype)
        if WIDE:
            weights, v = weights.to(tl.float32), v.to(tl.float32)
        sums = sums * fade[:, None] + tl.dot(weights, v, input_precision="ieee")
        highest = peak
    return highest, total, sums


@triton.jit
def attend_tiles(
    queries,
    keys,
    values,
    out,
    starts,
    contexts,
    tables,
    tile_sequences,
    tile_firsts,
    table_width,
    scale,
    cap,
    WINDOW: tl.constexpr,
    CAP: tl.constexpr,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE_TOKENS: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Program (tile, KV head): query tokens of one sequence, with all query heads of the KV head."""
    GROUP: tl.constexpr = HEADS // KV_HEADS
    sequence = tl.load(tile_sequences + tl.program_id(0))
    first = tl.load(tile_firsts + tl.program_id(0))
    head = tl.program_id(1)
    start = tl.load(starts + sequence)
    new = tl.load(starts + sequence + 1) - start
    context = tl.load(contexts + sequence)
    rows = tl.arange(0, ROWS)
    token = first + rows // GROUP_BLOCK
    member = rows % GROUP_BLOCK
    at = tl.arange(0, DIM_BLOCK)
    real = (rows // GROUP_BLOCK < TILE_TOKENS) & (token < new) & (member < GROUP)
    mask = real[:, None] & (at < HEAD_DIM)[None, :]
    offsets = ((start + token).to(tl.int64) * HEADS + head * GROUP + member)[:, None] * HEAD_DIM + at[None, :]
    q = tl.load(queries + offsets, mask=mask, other=0.0)
    if WIDE:
        q = q.to(tl.float32)
    last = context - new + token
    end = tl.minimum(context - new + first + TILE_TOKENS, context)
    begin = 0
    if WINDOW:
        begin = tl.maximum(context - new + first - WINDOW + 1, 0) // COLUMNS * COLUMNS
    _, total, sums = _look(
        q,
        last,
        tl.full([ROWS], float("-inf"), tl.float32),
        tl.zeros([ROWS], tl.float32),
        tl.zeros([ROWS, DIM_BLOCK], tl.float32),
        begin,
        end,
        tables + sequence.to(tl.int64) * table_width,
        keys,
        values,
        head,
        scale,
        cap,
        WINDOW,
        CAP,
        KV_HEADS,
        HEAD_DIM,
        BLOCK_SIZE,
        DIM_BLOCK,
        COLUMNS,
        WIDE,
    )
    answer = sums / tl.where(real, total, 1.0)[:, None]
    tl.store(out + offsets, answer.to(out.dtype.element_ty), mask=mask)


@triton.jit
def attend_splits(
    queries,
    keys,
    values,
    partial_sums,
    partial_peaks,
    partial_totals,
    counts,
    starts,
    contexts,
    spans,
    tables,
    piece_sequences,
    piece_splits,
    table_width,
    scale,
    cap,
    WINDOW: tl.constexpr,
    CAP: tl.constexpr,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Programs take (split of a decode's context, KV head) in turn, and write a partial result for each.

    Their number is read from `counts` on the device, so that a captured launch works for any contexts.
    """
    GROUP: tl.constexpr = HEADS // KV_HEADS
    member = tl.arange(0, GROUP_BLOCK)
    at = tl.arange(0, DIM_BLOCK)
    mask = (member < GROUP)[:, None] & (at < HEAD_DIM)[None, :]
    work = tl.load(counts + 1) * KV_HEADS
    for item in range(tl.program_id(0), work, tl.num_programs(0)):
        piece = item // KV_HEADS
        head = item % KV_HEADS
        sequence = tl.load(piece_sequences + piece)
        split = tl.load(piece_splits + piece)
        context = tl.load(contexts + sequence)
        row = tl.load(starts + sequence).to(tl.int64)
        q_at = (row * HEADS + head * GROUP + member)[:, None] * HEAD_DIM + at[None, :]
        q = tl.load(queries + q_at, mask=mask, other=0.0)
        if WIDE:
            q = q.to(tl.float32)
        span = tl.load(spans + sequence)
        begin = split * span
        end = tl.minimum(begin + span, context)
        if WINDOW:
            begin = tl.maximum(begin, tl.maximum(context - WINDOW, 0) // COLUMNS * COLUMNS)
        highest, total, sums = _look(
            q,
            tl.zeros([GROUP_BLOCK], tl.int32) + context - 1,
            tl.full([GROUP_BLOCK], float("-inf"), tl.float32),
            tl.zeros([GROUP_BLOCK], tl.float32),
            tl.zeros([GROUP_BLOCK, DIM_BLOCK], tl.float32),
            begin,
            end,
            tables + sequence.to(tl.int64) * table_width,
            keys,
            values,
            head,
            scale,
            cap,
            WINDOW,
            CAP,
            KV_HEADS,
            HEAD_DIM,
            BLOCK_SIZE,
            DIM_BLOCK,
            COLUMNS,
            WIDE,
        )
        place = piece.to(tl.int64) * HEADS + head * GROUP + member
        tl.store(partial_peaks + place, highest, mask=member < GROUP)
        tl.store(partial_totals + place, total, mask=member < GROUP)
        tl.store(partial_sums + place[:, None] * HEAD_DIM + at[None, :], sums, mask=mask)


@triton.jit
def join_splits(
    partial_sums,
    partial_peaks,
    partial_totals,
    out,
    counts,
    starts,
    decodes,
    first_pieces,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
):
    """Program (decode, KV head): join the splits of one sequence, from first to last."""
    GROUP: tl.constexpr = HEADS // KV_HEADS
    decode = tl.program_id(0)
    if decode < tl.load(counts):
        head = tl.program_id(1)
        member = tl.arange(0, GROUP_BLOCK)
        at = tl.arange(0, DIM_BLOCK)
        mine = member < GROUP
        mask = mine[:, None] & (at < HEAD_DIM)[None, :]
        highest = tl.full([GROUP_BLOCK], float("-inf"), tl.float32)
        total = tl.zeros([GROUP_BLOCK], tl.float32)
        sums = tl.zeros([GROUP_BLOCK, DIM_BLOCK], tl.float32)
        for piece in range(tl.load(first_pieces + decode), tl.load(first_pieces + decode + 1)):
            place = tl.full([GROUP_BLOCK], piece, tl.int64) * HEADS + head * GROUP + member
            other = tl.load(partial_peaks + place, mask=mine, other=float("-inf"))
            peak = tl.maximum(highest, other)
            # Splits before a sliding window attended to no token.
            safe = tl.where(peak == float("-inf"), 0.0, peak)
            fade, weight = tl.exp(highest - safe), tl.exp(other - safe)
            total = total * fade + tl.load(partial_totals + place, mask=mine, other=0.0) * weight
            weighted = tl.load(partial_sums + place[:, None] * HEAD_DIM + at[None, :], mask=mask, other=0.0)
            sums = sums * fade[:, None] + weighted * weight[:, None]
            highest = peak
        row = tl.load(starts + tl.load(decodes + decode)).to(tl.int64)
        offsets = (row * HEADS + head * GROUP + member)[:, None] * HEAD_DIM + at[None, :]
        answer = sums / tl.where(mine, total, 1.0)[:, None]
        tl.store(out + offsets, answer.to(out.dtype.element_ty), mask=mask)


@triton.jit
def pick_part(
    logits,
    cuts,
    inverse,
    seeds,
    best_values,
    second_values,
    best_places,
    drawn_values,
    drawn_places,
    vocab,
    parts,
    DRAW: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Program (row, part of the vocabulary): best and second best logit; if DRAW, also the drawn token.

    The drawn token has the largest logit / temperature + Gumbel noise. The noise is that of `engine.sampler.noise`:
    SplitMix64 over the row's key, in float64. If a logit is NaN or infinite, the second best is NaN.
    """
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    token = part * BLOCK + tl.arange(0, BLOCK)
    inside = token < vocab
    raw = tl.load(logits + row * vocab + token, mask=inside, other=0.0).to(tl.float32)
    wrong = tl.sum(((raw - raw) != 0.0).to(tl.int32), axis=0)
    logit = tl.where(inside, raw, float("-inf"))
    best, place = tl.max(logit, axis=0, return_indices=True)
    second = tl.max(tl.where(token == part * BLOCK + place, float("-inf"), logit), axis=0)
    at = row * parts + part
    tl.store(best_values + at, best)
    tl.store(second_values + at, tl.where(wrong > 0, float("nan"), second))
    tl.store(best_places + at, (part * BLOCK + place).to(tl.int64))
    if DRAW:
        stays = inside & (logit >= tl.load(cuts + row))
        bits = tl.load(seeds + row).to(tl.uint64) + token.to(tl.uint64) * 0x9E3779B97F4A7C15
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB
        bits = bits ^ (bits >> 31)
        uniform = ((bits >> 11).to(tl.float64) + 0.5) * 1.1102230246251565e-16
        noise = -tl.log(-tl.log(uniform))
        value = tl.where(stays, raw.to(tl.float64) * tl.load(inverse + row) + noise, float("-inf"))
        highest, winner = tl.max(value, axis=0, return_indices=True)
        tl.store(drawn_values + at, highest)
        tl.store(drawn_places + at, (part * BLOCK + winner).to(tl.int64))
