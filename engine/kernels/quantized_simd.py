"""LLVM intrinsics for products with quantized weights: integers become bfloat16 in registers, by table lookup.

Integers of 8 bits (and so of 4) are exact in bfloat16, so the bf16 dot-product instruction multiplies them directly,
and scales are applied to sums. `packed` selects the panel's element type: np.int8 for int8, np.uint8 for int4,
np.uint16 for bfloat16 (the output of `unpack`). The layout of panels: `engine.quantization.linear`.
"""

from typing import Any

import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped]

from engine.kernels.simd import LANES, _at, _BFloat, _call, _f, _fetch_two, _splat, _store, cgutils, emitted, types

PAIR_BYTES = {"int8": 128, "uint8": 64, "uint16": 256}
"""Bytes of a panel (64 outputs) per two inputs."""
_F32, _I32, _I16, _I8 = ir.FloatType(), ir.IntType(32), ir.IntType(16), ir.IntType(8)
_VF, _VI = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_WORDS, _BYTES = ir.VectorType(_I16, 32), ir.VectorType(_I8, 64)
_PAIRS = ir.VectorType(_BFloat(), 32)
_SIGN = 0x80


def has_quantized_products() -> bool:
    """Whether the processor has the required instructions (AVX512-BF16 and -VBMI)."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512bf16", False) and features.get("avx512vbmi", False))


def _halves(numbers: Any) -> list[int]:
    """Bits of small integers as bfloat16."""
    bits = np.asarray(numbers, np.float32).view(np.uint32) >> 16
    return [int(word) for word in bits]


_NIBBLES = ir.Constant(_WORDS, _halves([*range(-8, 8)] * 2))
_MAGNITUDES = _halves(range(128))
_LOW = [ir.Constant(_BYTES, [word & 0xFF for word in _MAGNITUDES[at : at + 64]]) for at in (0, 64)]
_HIGH = [ir.Constant(_BYTES, [word >> 8 for word in _MAGNITUDES[at : at + 64]]) for at in (0, 64)]
_LEAST = _halves([-128])[0] >> 8
"""High byte of bfloat16 −128, which 7-bit sign-magnitude cannot express: it is stored as −0. Its low byte is 0."""


# Each byte of the first register is followed by its own of the second.
# The processor interleaves bytes within each 128-bit lane of a register.
_INTERLEAVED = [
    ir.Constant(
        ir.VectorType(_I32, 64),
        [16 * part + 8 * h + byte + 64 * second for part in range(4) for byte in range(8) for second in (0, 1)],
    )
    for h in (0, 1)
]


def _bytes(value: int) -> Any:
    return ir.Constant(_BYTES, [value] * 64)


def _loaded(builder: Any, address: Any, kind: Any) -> Any:
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 1
    return value


def _from_nibbles(builder: Any, at: Any) -> list[Any]:
    """The lookup uses the lowest five bits of a word; the table repeats, so that the fifth has no effect."""
    words = _loaded(builder, at, _WORDS)
    vectors = []
    for vector in range(4):
        index = builder.lshr(words, ir.Constant(_WORDS, [4 * vector] * 32)) if vector else words
        vectors.append(_call(builder, "llvm.x86.avx512.permvar.hi.512", _WORDS, _NIBBLES, index))
    return [builder.bitcast(vector, _PAIRS) for vector in vectors]


def _from_bytes(builder: Any, at: Any) -> list[Any]:
    """The lookup uses the lowest seven bits of a byte, the magnitude."""
    vectors = []
    for half in range(2):
        codes = _loaded(builder, builder.add(at, ir.Constant(at.type, 64 * half)), _BYTES)
        low, high = (
            _call(builder, "llvm.x86.avx512.vpermi2var.qi.512", _BYTES, table[0], codes, table[1])
            for table in (_LOW, _HIGH)
        )
        high = builder.or_(high, builder.and_(codes, _bytes(_SIGN)))
        least = builder.icmp_unsigned("==", codes, _bytes(_SIGN))
        high = builder.select(least, _bytes(_LEAST), high)
        vectors += [builder.shuffle_vector(low, high, order) for order in _INTERLEAVED]
    return [builder.bitcast(vector, _PAIRS) for vector in vectors]


def _from_halves(builder: Any, at: Any) -> list[Any]:
    return [_loaded(builder, builder.add(at, ir.Constant(at.type, 64 * vector)), _PAIRS) for vector in range(4)]


def _rights(builder: Any, b: Any, index: Any, packed: Any) -> list[Any]:
    """Four vectors of sixteen pairs: the panel at two inputs."""
    kind = str(types.unliteral(packed))
    at = builder.add(b, builder.mul(index, ir.Constant(index.type, PAIR_BYTES[kind])))
    return {"int8": _from_bytes, "uint8": _from_nibbles, "uint16": _from_halves}[kind](builder, at)


@emitted(types.int64)
def pair_bytes(_builder: Any, packed: Any) -> Any:
    """See `PAIR_BYTES`."""
    return ir.Constant(ir.IntType(64), PAIR_BYTES[str(types.unliteral(packed))])


@emitted(lambda *kinds: types.void(*[types.int64] * 10, kinds[-1]), most_rows=4)
def scaled(  # noqa: PLR0917
    builder: Any,
    rows: int,
    a: Any,
    a_stride: Any,
    b: Any,
    scales: Any,
    c: Any,
    groups: Any,
    depth: Any,
    ahead: Any,
    ahead_stride: Any,
    packed: Any,
) -> None:
    """c[r, 0:64] = sum over groups of scale · sum over its pairs, for 1 to 4 rows r.

    a[r, k] is a pair of bfloat16 (its stride counts pairs), b a packed panel, `scales` float32 [groups, 64], `depth`
    the pairs per group, c float32 [rows, 64]. Sums run in the same order for any number of rows and every packing of
    the same integers. With each pair the two cache lines at `ahead` are prefetched, and `ahead` advances by its stride.
    """
    index = a.type
    places = [(r, v) for r in range(rows) for v in range(4)]
    sums = {place: cgutils.alloca_once(builder, _VF) for place in places}
    targets = {(r, v): _at(builder, c, ir.Constant(index, 64 * r + LANES * v), _F32) for r, v in places}
    for place in places:
        _store(builder, _f(0.0), targets[place], types.float32)
    with cgutils.for_range(builder, groups, intp=index) as group:
        for total in sums.values():
            builder.store(_f(0.0), total)
        first = builder.mul(group.index, depth)
        with cgutils.for_range(builder, depth, intp=index) as loop:
            place = builder.add(first, loop.index)
            _fetch_two(builder, builder.add(ahead, builder.mul(place, ahead_stride)))
            rights = _rights(builder, b, place, packed)
            for r in range(rows):
                where = builder.add(builder.mul(a_stride, ir.Constant(index, r)), place)
                left = builder.bitcast(_splat(builder, builder.load(_at(builder, a, where, _I32))), _PAIRS)
                for v, right in enumerate(rights):
                    total = sums[r, v]
                    dot = _call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", _VF, builder.load(total), left, right)
                    builder.store(dot, total)
        at = builder.add(scales, builder.mul(group.index, ir.Constant(index, 256)))
        for v in range(4):
            scale = _loaded(builder, builder.add(at, ir.Constant(index, 4 * LANES * v)), _VF)
            for r in range(rows):
                target = builder.bitcast(targets[r, v], _VF.as_pointer())
                before = builder.load(target)
                before.align = 4
                after = _call(builder, "llvm.fma.v16f32", _VF, scale, builder.load(sums[r, v]), before)
                _store(builder, after, target, types.float32)


@emitted(lambda *kinds: types.void(*[types.int64] * 3, kinds[-1]))
def unpack(builder: Any, b: Any, pairs: Any, out: Any, packed: Any) -> None:
    """Write a packed panel's integers to `out` as bfloat16 pairs [pairs, 64, 2]."""
    with cgutils.for_range(builder, pairs, intp=pairs.type) as loop:
        rights = _rights(builder, b, loop.index, packed)
        at = builder.add(out, builder.mul(loop.index, ir.Constant(out.type, PAIR_BYTES["uint16"])))
        for v, right in enumerate(rights):
            where = builder.inttoptr(builder.add(at, ir.Constant(out.type, 64 * v)), _PAIRS.as_pointer())
            builder.store(right, where).align = 1
