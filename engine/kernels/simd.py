"""LLVM intrinsics for Numba: raw memory, bfloat16, threads, vectors of sixteen floats.

Addresses are ints. `like` selects the element type in memory: np.float32, np.uint16 for bfloat16, or np.int8, which is
only read, as factors. Vectors need no alignment beyond that of their elements.
"""

import ctypes
import functools
import inspect
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import extending
from numba import types as _types
from numba.core import cgutils as _cgutils

LANES = 16
_FMA = "llvm.fma.v16f32"
cgutils: Any = _cgutils
types: Any = _types
_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_I16 = ir.IntType(16)
_I8 = ir.IntType(8)
_VF = ir.VectorType(_F32, LANES)
_VI = ir.VectorType(_I32, LANES)
_VH = ir.VectorType(_I16, LANES)
_X86 = platform.machine().lower() in {"x86_64", "amd64"}
_VB = ir.VectorType(_I8, LANES)


def intrinsic(function: Callable[..., Any]) -> Any:
    """Numba's decorator with a type; the resulting function takes all parameters but the typing context."""
    return extending.intrinsic(function)


def emitted(signature: Any, *, most_rows: int = 0) -> Callable[[Callable[..., Any]], Any]:
    """An intrinsic from a function that emits its code: it gets a builder and the values of the arguments.

    Of `like` and `packed` it gets the type. `signature` is Numba's, or a function that makes it of all types. With
    `most_rows` the first argument is a number of rows: code is emitted for each from 1 on, and the one that fits runs.
    """

    def intrinsic_of(emit: Callable[..., Any]) -> Any:
        names = list(inspect.signature(emit).parameters)[1:]

        def typed(_context: Any, *kinds: Any) -> Any:
            def code(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
                of_names = zip(names, kinds, args, strict=True)
                given = [kind if name in {"like", "packed"} else arg for name, kind, arg in of_names]
                for rows in range(1, most_rows + 1):
                    with builder.if_then(builder.icmp_signed("==", given[0], ir.Constant(given[0].type, rows))):
                        emit(builder, rows, *given[1:])
                result = None if most_rows else emit(builder, *given)
                return context.get_dummy_value() if result is None else result

            return signature(*kinds) if callable(signature) else signature, code

        return intrinsic(functools.wraps(emit)(typed))

    return intrinsic_of


def openmp_library() -> ctypes.CDLL:
    """The OpenMP runtime of torch, so that our kernels share its threads instead of competing with them."""
    packages = Path(torch.__file__).parent
    for folder in (packages / "lib", packages.parent / "torch.libs"):
        for pattern in ("libgomp*", "libomp*", "libiomp5*"):
            for path in folder.glob(pattern):
                return ctypes.CDLL(str(path))
    return ctypes.CDLL(None)


def _address(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _is_half(like: Any) -> bool:
    return bool(types.unliteral(like) == types.uint16)


def _is_byte(like: Any) -> bool:
    return bool(types.unliteral(like) == types.int8)


def _element(like: Any) -> Any:
    if _is_byte(like):
        return _I8
    return _I16 if _is_half(like) else _F32


def _splat(builder: Any, scalar: Any) -> Any:
    kind = ir.VectorType(scalar.type, LANES)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), ir.Constant(_VI, [0] * LANES))


def _f(value: float) -> Any:
    return ir.Constant(_VF, [value] * LANES)


def _i(value: int) -> Any:
    return ir.Constant(_VI, [value] * LANES)


def _at(builder: Any, address: Any, index: Any, element: Any) -> Any:
    pointer = builder.inttoptr(address, element.as_pointer())
    return builder.gep(pointer, [index])


def _load(builder: Any, pointer: Any, like: Any) -> Any:
    """Sixteen elements as float32."""
    if _is_byte(like):
        whole = builder.load(builder.bitcast(pointer, _VB.as_pointer()))
        whole.align = 1
        return builder.sitofp(builder.sext(whole, _VI), _VF)
    half = _is_half(like)
    kind = _VH if half else _VF
    loaded = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    loaded.align = 2 if half else 4
    if not half:
        return loaded
    return builder.bitcast(builder.shl(builder.zext(loaded, _VI), _i(16)), _VF)


def _store(builder: Any, vector: Any, pointer: Any, like: Any) -> None:
    """Store sixteen float32 as elements; bfloat16 rounds to nearest even."""
    half = _is_half(like)
    if half:
        bits = builder.bitcast(vector, _VI)
        odd = builder.and_(builder.lshr(bits, _i(16)), _i(1))
        rounded = builder.add(bits, builder.add(odd, _i(0x7FFF)))
        vector = builder.trunc(builder.lshr(rounded, _i(16)), _VH)
    stored = builder.store(vector, builder.bitcast(pointer, vector.type.as_pointer()))
    stored.align = 2 if half else 4


def _call(builder: Any, name: str, kind: Any, *args: Any) -> Any:
    declared = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [a.type for a in args]), name)
    return builder.call(declared, args)


def _fetch(builder: Any, address: Any) -> None:
    """Prefetch a cache line into the L2 cache."""
    kind = ir.IntType(8).as_pointer()
    constants = [ir.Constant(_I32, value) for value in (0, 2, 1)]  # read; L2 cache; data
    _call(builder, "llvm.prefetch.p0", ir.VoidType(), builder.inttoptr(address, kind), *constants)


def _fetch_two(builder: Any, address: Any) -> None:
    for offset in (0, 64):
        _fetch(builder, builder.add(address, ir.Constant(address.type, offset)))


def _exp(builder: Any, x: Any) -> Any:
    """e^x within 2 ulp for -87 <= x <= 88; 0 below -87 (polynomial of the Cephes library)."""
    small = builder.fcmp_ordered("<", x, _f(-87.0))
    x = _call(builder, "llvm.minnum.v16f32", _VF, x, _f(88.0))
    x = _call(builder, "llvm.maxnum.v16f32", _VF, x, _f(-87.0))
    n = _call(builder, "llvm.rint.v16f32", _VF, builder.fmul(x, _f(1.4426950408889634)))
    r = _call(builder, _FMA, _VF, n, _f(-0.693359375), x)
    r = _call(builder, _FMA, _VF, n, _f(2.12194440e-4), r)
    y = _f(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        y = _call(builder, _FMA, _VF, y, r, _f(c))
    y = _call(builder, _FMA, _VF, y, builder.fmul(r, r), builder.fadd(r, _f(1.0)))
    scale = builder.shl(builder.add(builder.fptosi(n, _VI), _i(127)), _i(23))
    y = builder.fmul(y, builder.bitcast(scale, _VF))
    return builder.select(small, _f(0.0), y)


@intrinsic
def pointer(_context: Any, address: Any, like: Any) -> Any:
    """An address as a pointer, for `numba.carray`."""
    kind = types.CPointer(types.unliteral(like))

    def code(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return kind(address, like), code


@emitted(types.int64)
def size_of(_builder: Any, like: Any) -> Any:
    """Bytes per element."""
    return ir.Constant(ir.IntType(64), {_I8: 1, _I16: 2, _F32: 4}[_element(like)])


@intrinsic
def widen(_context: Any, element: Any) -> Any:
    """An element as float32."""

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if not _is_half(element):
            return args[0]
        return builder.bitcast(builder.shl(builder.zext(args[0], _I32), ir.Constant(_I32, 16)), _F32)

    return types.float32(element), code


@emitted(lambda _value, like: types.unliteral(like)(types.float32, like))
def narrow(builder: Any, value: Any, like: Any) -> Any:
    """A float32 as an element of the type of `like`, rounded to nearest even."""
    if _is_byte(like):
        return builder.fptosi(_call(builder, "llvm.rint.f32", _F32, value), _I8)
    if not _is_half(like):
        return value
    bits = builder.bitcast(value, _I32)
    odd = builder.and_(builder.lshr(bits, ir.Constant(_I32, 16)), ir.Constant(_I32, 1))
    rounded = builder.add(bits, builder.add(odd, ir.Constant(_I32, 0x7FFF)))
    return builder.trunc(builder.lshr(rounded, ir.Constant(_I32, 16)), _I16)


@emitted(lambda word: word(word))
def leading_zeros(builder: Any, word: Any) -> Any:
    """Number of leading zero bits of an integer."""
    return builder.ctlz(word, ir.Constant(ir.IntType(1), 0))


@emitted(types.int64(types.int64))
def fetch_add(builder: Any, address: Any) -> Any:
    """Atomically increment a shared int64 counter; returns the old value."""
    counter = builder.inttoptr(address, ir.IntType(64).as_pointer())
    return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "acq_rel")


@emitted(types.int64(types.int64))
def load_shared(builder: Any, address: Any) -> Any:
    """Load a shared int64 with acquire ordering."""
    word = ir.IntType(64)
    return builder.load_atomic(builder.inttoptr(address, word.as_pointer()), "acquire", 8)


@emitted(types.void(types.int64, types.int64))
def call_kernel(builder: Any, function: Any, arguments: Any) -> None:
    """Call a compiled kernel by its address, with the address of its argument block."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte])
    builder.call(builder.inttoptr(function, kind.as_pointer()), [builder.inttoptr(arguments, byte)])


@emitted(types.void())
def relax(builder: Any) -> None:
    """Spin-wait hint for the processor (`pause`)."""
    _call(builder, "llvm.x86.sse2.pause" if _X86 else "llvm.donothing", ir.VoidType())


@emitted(types.void())
def let_others_run(builder: Any) -> None:
    """Yield the core to other threads (sched_yield)."""
    _call(builder, "penstock_yield", _I32)


@emitted(types.void(types.int64))
def prefetch(builder: Any, address: Any) -> None:
    """Prefetch the cache line at an address."""
    _fetch(builder, address)


@emitted(types.int64())
def thread_number(builder: Any) -> Any:
    """This thread's number in its OpenMP team; 0 outside of parallel regions."""
    return builder.zext(_call(builder, "penstock_thread_number", _I32), ir.IntType(64))


@emitted(types.int64())
def team_size(builder: Any) -> Any:
    """Number of threads in the OpenMP team; 1 outside of parallel regions."""
    return builder.zext(_call(builder, "penstock_team_size", _I32), ir.IntType(64))


class _FetchQueue(NamedTuple):
    """State of a fetch queue, in registers during a loop."""

    queue: Any
    entry: Any
    done: Any
    page_bytes: Any

    @classmethod
    def read(cls, builder: Any, queue: Any) -> "_FetchQueue":
        entry, done = cgutils.alloca_once(builder, queue.type), cgutils.alloca_once(builder, queue.type)
        words = [builder.load(_at(builder, queue, ir.Constant(queue.type, place), queue.type)) for place in range(3)]
        builder.store(words[QUEUE_ENTRY], entry)
        builder.store(words[QUEUE_DONE], done)
        return cls(queue, entry, done, words[QUEUE_PAGE_BYTES])

    def fetch(self, builder: Any) -> None:
        """Prefetch two cache lines and advance; at the end of the queue the same lines repeatedly."""
        index = self.queue.type
        entry, done = builder.load(self.entry), builder.load(self.done)
        page = builder.load(builder.inttoptr(entry, index.as_pointer()))
        _fetch_two(builder, builder.add(page, done))
        more = builder.add(done, ir.Constant(index, 128))
        over = builder.icmp_signed(">=", more, self.page_bytes)
        last = builder.icmp_signed("==", page, self.queue)
        onward = builder.and_(over, builder.not_(last))
        builder.store(builder.select(onward, builder.add(entry, ir.Constant(index, 8)), entry), self.entry)
        builder.store(builder.select(builder.or_(over, last), ir.Constant(index, 0), more), self.done)

    def write(self, builder: Any) -> None:
        for place, word in ((QUEUE_ENTRY, self.entry), (QUEUE_DONE, self.done)):
            target = _at(builder, self.queue, ir.Constant(self.queue.type, place), self.queue.type)
            builder.store(builder.load(word), target)


def _tile(columns: int) -> Any:
    @emitted(lambda *kinds: types.void(*[types.int64] * 10, kinds[-1]), most_rows=4)
    def tile(  # noqa: PLR0917
        builder: Any,
        rows: int,
        a: Any,
        a_stride: Any,
        b_list: Any,
        b_stride: Any,
        c: Any,
        c_stride: Any,
        depth: Any,
        accumulate: Any,
        queue: Any,
        like: Any,
    ) -> None:
        index = a.type

        def number(value: int) -> Any:
            return ir.Constant(index, value)

        places = [(r, v) for r in range(rows) for v in range(columns)]
        rights = [builder.load(_at(builder, b_list, number(v), index)) for v in range(columns)]
        targets = {
            (r, v): _at(builder, c, builder.add(builder.mul(c_stride, number(r)), number(LANES * v)), _F32)
            for r, v in places
        }
        sums = {place: cgutils.alloca_once(builder, _VF) for place in places}
        for place in places:
            builder.store(_f(0.0), sums[place])
        with builder.if_then(builder.icmp_signed("!=", accumulate, number(0))):
            for place in places:
                builder.store(_load(builder, targets[place], types.float32), sums[place])
        ahead = _FetchQueue.read(builder, queue)
        with cgutils.for_range(builder, depth, intp=index) as loop:
            ahead.fetch(builder)
            at = builder.mul(loop.index, b_stride)
            vectors = [_load(builder, _at(builder, right, at, _element(like)), like) for right in rights]
            for r in range(rows):
                where = builder.add(builder.mul(a_stride, number(r)), loop.index)
                left = _splat(builder, builder.load(_at(builder, a, where, _F32)))
                for v, vector in enumerate(vectors):
                    total = sums[r, v]
                    builder.store(_call(builder, _FMA, _VF, left, vector, builder.load(total)), total)
        ahead.write(builder)
        for place in places:
            _store(builder, builder.load(sums[place]), targets[place], types.float32)

    return tile


QUEUE_ENTRY, QUEUE_DONE, QUEUE_PAGE_BYTES, QUEUE_FIRST = range(4)
"""Words of a fetch queue: address of the current entry, bytes of it already prefetched, bytes per entry (a multiple of
128), and the entries: addresses. The last entry is the queue's own address."""

tile_x1, tile_x4 = _tile(1), _tile(4)
"""tile_xV(rows, a, a_stride, b_list, b_stride, c, c_stride, depth, accumulate, queue, like):

c[r, v, 0:16] (+)= sum over k < depth, in this order, of a[r, k] · b[v][k, 0:16], for 1 to 4 rows r and V vectors v.

`b_list` is the address of V addresses; the vectors of c are contiguous; a and c are float32; strides count elements.
With each k 128 bytes of the entries of `queue` are prefetched.
"""


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat type, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def has_bfloat16_products() -> bool:
    """Whether the processor has the instruction that `pairs` uses (AVX512-BF16)."""
    return bool(binding.get_host_cpu_features().get("avx512bf16", False))


@emitted(types.void(*[types.int64] * 8), most_rows=6)
def pairs(  # noqa: PLR0917
    builder: Any, rows: int, a: Any, a_stride: Any, b: Any, c: Any, depth: Any, ahead: Any, share: Any
) -> None:
    """c[r, 0:64] = sum over k < depth of two products at a time, for 1 to 6 rows r.

    a[r, k] is a pair (its stride counts pairs), b[k, 0:64] are contiguous pairs, c is [rows, 64]; all sums are float32.
    With each k 128 bytes are prefetched at `ahead` + k · `share`, which covers depth · share bytes if `share` is at
    most 128.
    """
    kind = ir.VectorType(_BFloat(), 2 * LANES)
    index = a.type
    sums = {(r, v): cgutils.alloca_once(builder, _VF) for r in range(rows) for v in range(4)}
    for total in sums.values():
        builder.store(_f(0.0), total)
    with cgutils.for_range(builder, depth, intp=index) as loop:
        _fetch_two(builder, builder.add(ahead, builder.mul(loop.index, share)))
        rights = []
        for v in range(4):
            at = builder.add(builder.shl(loop.index, ir.Constant(index, 6)), ir.Constant(index, LANES * v))
            words = builder.load(builder.bitcast(_at(builder, b, at, _I32), _VI.as_pointer()))
            words.align = 4
            rights.append(builder.bitcast(words, kind))
        for r in range(rows):
            where = builder.add(builder.mul(a_stride, ir.Constant(index, r)), loop.index)
            left = builder.bitcast(_splat(builder, builder.load(_at(builder, a, where, _I32))), kind)
            for v, right in enumerate(rights):
                total = sums[r, v]
                dot = _call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", _VF, builder.load(total), left, right)
                builder.store(dot, total)
    for (r, v), total in sums.items():
        target = _at(builder, c, ir.Constant(index, 4 * LANES * r + LANES * v), _F32)
        _store(builder, builder.load(total), target, types.float32)


@emitted(types.float32(types.int64, types.int64))
def peak_16(builder: Any, address: Any, vectors: Any) -> Any:
    """The maximum of 16 · `vectors` float32."""
    best = cgutils.alloca_once(builder, _VF)
    builder.store(_f(float("-inf")), best)
    with cgutils.for_range(builder, vectors, intp=vectors.type) as loop:
        at = _at(builder, address, builder.shl(loop.index, ir.Constant(address.type, 4)), _F32)
        value = _load(builder, at, types.float32)
        builder.store(_call(builder, "llvm.maxnum.v16f32", _VF, builder.load(best), value), best)
    return _call(builder, "llvm.vector.reduce.fmax.v16f32", _F32, builder.load(best))


@emitted(types.void(types.int64, types.int64, types.int64))
def extremes_16(builder: Any, address: Any, vectors: Any, out: Any) -> None:
    """Write to `out` (two int32) the maximum and minimum of 16 · `vectors` float32, as ordered integers.

    These compare as the floats do; NaN of either sign lies beyond the infinity of its sign.
    """
    high, low = cgutils.alloca_once(builder, _VI), cgutils.alloca_once(builder, _VI)
    builder.store(_i(-0x80000000), high)
    builder.store(_i(0x7FFFFFFF), low)
    with cgutils.for_range(builder, vectors, intp=vectors.type) as loop:
        at = _at(builder, address, builder.shl(loop.index, ir.Constant(address.type, 4)), _I32)
        bits = builder.load(builder.bitcast(at, _VI.as_pointer()))
        bits.align = 4
        value = builder.xor(bits, builder.and_(builder.ashr(bits, _i(31)), _i(0x7FFFFFFF)))
        builder.store(_call(builder, "llvm.smax.v16i32", _VI, builder.load(high), value), high)
        builder.store(_call(builder, "llvm.smin.v16i32", _VI, builder.load(low), value), low)
    for place, name, value in ((0, "smax", high), (1, "smin", low)):
        reduced = _call(builder, f"llvm.vector.reduce.{name}.v16i32", _I32, builder.load(value))
        builder.store(reduced, _at(builder, out, ir.Constant(out.type, place), _I32))


@emitted(types.float32(types.int64, types.int64, types.float32))
def exp_16(builder: Any, address: Any, vectors: Any, peak: Any) -> Any:
    """Replace 16 · `vectors` float32 x by e^(x - peak); returns their sum."""
    peak = _splat(builder, peak)
    total = cgutils.alloca_once(builder, _VF)
    builder.store(_f(0.0), total)
    with cgutils.for_range(builder, vectors, intp=vectors.type) as loop:
        at = _at(builder, address, builder.shl(loop.index, ir.Constant(address.type, 4)), _F32)
        value = _exp(builder, builder.fsub(_load(builder, at, types.float32), peak))
        _store(builder, value, at, types.float32)
        builder.store(builder.fadd(builder.load(total), value), total)
    zero = ir.Constant(_F32, 0.0)
    return _call(builder, "llvm.vector.reduce.fadd.v16f32", _F32, zero, builder.load(total))


@emitted(lambda *kinds: types.void(*[types.int64] * 4, kinds[-1]))
def silu_16(  # noqa: PLR0917
    builder: Any, gate: Any, up: Any, out: Any, vectors: Any, like: Any
) -> None:
    """Write gate / (1 + e^-gate) · up to `out`, 16 · `vectors` elements."""
    with cgutils.for_range(builder, vectors, intp=vectors.type) as loop:
        at = builder.shl(loop.index, ir.Constant(vectors.type, 4))
        kind = _element(like)
        g = _load(builder, _at(builder, gate, at, kind), like)
        u = _load(builder, _at(builder, up, at, kind), like)
        bottom = builder.fadd(_exp(builder, builder.fsub(_f(0.0), g)), _f(1.0))
        _store(builder, builder.fmul(builder.fdiv(g, bottom), u), _at(builder, out, at, kind), like)


binding.add_symbol("penstock_thread_number", _address(openmp_library(), "omp_get_thread_num"))
binding.add_symbol("penstock_team_size", _address(openmp_library(), "omp_get_num_threads"))
binding.add_symbol("penstock_yield", _address(ctypes.CDLL(None), "sched_yield"))
