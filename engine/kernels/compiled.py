"""Compiled kernels as functions of one argument address, run by the calling thread or by torch's OpenMP team."""

import ctypes
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import cfunc, types

from engine.kernels import attention_kernel, product_kernel, program_kernel, quantized_product, row_kernels
from engine.kernels.attention_kernel import attend, write_kv, write_kv_bytes
from engine.kernels.jit import carray, is_on_disk
from engine.kernels.product_kernel import multiply_full, multiply_half
from engine.kernels.program_kernel import run_program
from engine.kernels.quantized_product import multiply_packed
from engine.kernels.quantized_simd import PAIR_BYTES
from engine.kernels.row_kernels import add_norm, gate
from engine.kernels.simd import openmp_library

_ATTENTION = attention_kernel.ARGUMENTS
_ROW = row_kernels.ARGUMENTS
_PRODUCT = product_kernel.ARGUMENTS
_QUANTIZED = quantized_product.ARGUMENTS
_PROGRAM = program_kernel.ARGUMENTS
_Function = Callable[[Any], None]
_HALF = np.uint16(0)
_FULL = np.float32(0)
_INT8 = np.int8(0)
_INT4 = np.uint8(0)
_INT8_BYTES = PAIR_BYTES["int8"]
_INT4_BYTES = PAIR_BYTES["uint8"]


def _attend_half_half(at: Any) -> None:
    attend(carray(at, _ATTENTION, np.int64), _HALF, _HALF)


def _write_kv_half_half(at: Any) -> None:
    write_kv(carray(at, _ATTENTION, np.int64), _HALF, _HALF)


def _attend_half_full(at: Any) -> None:
    attend(carray(at, _ATTENTION, np.int64), _HALF, _FULL)


def _write_kv_half_full(at: Any) -> None:
    write_kv(carray(at, _ATTENTION, np.int64), _HALF, _FULL)


def _attend_half_bytes(at: Any) -> None:
    attend(carray(at, _ATTENTION, np.int64), _HALF, _INT8)


def _write_kv_half_bytes(at: Any) -> None:
    write_kv_bytes(carray(at, _ATTENTION, np.int64), _HALF)


def _attend_full_half(at: Any) -> None:
    attend(carray(at, _ATTENTION, np.int64), _FULL, _HALF)


def _write_kv_full_half(at: Any) -> None:
    write_kv(carray(at, _ATTENTION, np.int64), _FULL, _HALF)


def _attend_full_full(at: Any) -> None:
    attend(carray(at, _ATTENTION, np.int64), _FULL, _FULL)


def _write_kv_full_full(at: Any) -> None:
    write_kv(carray(at, _ATTENTION, np.int64), _FULL, _FULL)


def _attend_full_bytes(at: Any) -> None:
    attend(carray(at, _ATTENTION, np.int64), _FULL, _INT8)


def _write_kv_full_bytes(at: Any) -> None:
    write_kv_bytes(carray(at, _ATTENTION, np.int64), _FULL)


def _add_norm_half(at: Any) -> None:
    add_norm(carray(at, _ROW, np.int64), _HALF)


def _add_norm_full(at: Any) -> None:
    add_norm(carray(at, _ROW, np.int64), _FULL)


def _gate_half(at: Any) -> None:
    gate(carray(at, _ROW, np.int64), _HALF)


def _gate_full(at: Any) -> None:
    gate(carray(at, _ROW, np.int64), _FULL)


def _multiply_half(at: Any) -> None:
    multiply_half(carray(at, _PRODUCT, np.int64), _HALF)


def _multiply_half_to_full(at: Any) -> None:
    multiply_half(carray(at, _PRODUCT, np.int64), _FULL)


def _multiply_full(at: Any) -> None:
    multiply_full(carray(at, _PRODUCT, np.int64))


def _multiply_int8(at: Any) -> None:
    multiply_packed(carray(at, _QUANTIZED, np.int64), _INT8, _INT8_BYTES, _HALF)


def _multiply_int8_to_full(at: Any) -> None:
    multiply_packed(carray(at, _QUANTIZED, np.int64), _INT8, _INT8_BYTES, _FULL)


def _multiply_int4(at: Any) -> None:
    multiply_packed(carray(at, _QUANTIZED, np.int64), _INT4, _INT4_BYTES, _HALF)


def _multiply_int4_to_full(at: Any) -> None:
    multiply_packed(carray(at, _QUANTIZED, np.int64), _INT4, _INT4_BYTES, _FULL)


def _run_program(at: Any) -> None:
    run_program(carray(at, _PROGRAM, np.int64))


class Kernel:
    """A compiled function of the address of its argument block. Calls release the GIL."""

    _team = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)(
        ctypes.cast(openmp_library().GOMP_parallel, ctypes.c_void_p).value or 0
    )

    def __init__(self, function: _Function) -> None:
        """Compile, or load from the cache on disk."""
        self._compiled = cfunc(types.void(types.voidptr), cache=True, error_model="numpy")(function)
        self.address = int(self._compiled.address or 0)
        self.alone: Callable[[int], None] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.address)
        """Run on the calling thread."""

    def run(self, arguments: int, threads: int) -> None:
        """Run on a team of `threads`, the calling one included; the argument block must state the same number."""
        if threads == 1:
            self.alone(arguments)
        else:
            self._team(self.address, arguments, threads, 0)


class RowCode(NamedTuple):
    """The kernels between a decoder's products, for one element type."""

    attend: Kernel
    write_kv: Kernel
    add_norm: Kernel
    gate: Kernel


_PAGED: Mapping[tuple[bool, str], tuple[_Function, _Function]] = {
    (True, "bfloat16"): (_attend_half_half, _write_kv_half_half),
    (True, "float32"): (_attend_half_full, _write_kv_half_full),
    (True, "int8"): (_attend_half_bytes, _write_kv_half_bytes),
    (False, "bfloat16"): (_attend_full_half, _write_kv_full_half),
    (False, "float32"): (_attend_full_full, _write_kv_full_full),
    (False, "int8"): (_attend_full_bytes, _write_kv_full_bytes),
}


def row_code(*, half: bool, paged: str) -> RowCode:
    """For bfloat16 (`half`) or float32; `paged`: dtype of the KV pages, "float32", "bfloat16" or "int8"."""
    return RowCode(*[Kernel(function) for function in _row_functions(half=half, paged=paged)])


def product_code(*, half: bool, result_half: bool) -> Kernel:
    """Products of bfloat16 (`half`) or float32 weights; with float32 weights the result is float32."""
    return Kernel(_product_function(half=half, result_half=result_half))


def quantized_code(*, bits: int, result_half: bool) -> Kernel:
    """Products of bfloat16 inputs with quantized weights."""
    return Kernel(_quantized_function(bits=bits, result_half=result_half))


def program_code() -> Kernel:
    """A sequence of kernels: see `engine.kernels.program_kernel`."""
    return Kernel(_run_program)


def compile_missing(
    progress: Callable[[str], None], *, half: bool, paged: str | None = None, bits: Collection[int] = ()
) -> None:
    """Compile the kernels that a model needs and that are not cached; `progress` is called before each one.

    `paged`: None for an encoder, which has no KV pages. `bits`: of quantized weights. Cached kernels load in
    milliseconds and are not reported.
    """
    wanted = [_product_function(half=half, result_half=True), _product_function(half=half, result_half=False)]
    if paged is not None:
        wanted += [*_row_functions(half=half, paged=paged), _run_program]
    if bits:
        wanted += [_quantized_function(bits=size, result_half=True) for size in sorted(bits)]
        wanted.append(_quantized_function(bits=8, result_half=False))
    missing = [function for function in dict.fromkeys(wanted) if not is_on_disk(function)]
    for number, function in enumerate(missing, 1):
        if is_on_disk(function):
            continue  # compiled meanwhile by another engine's thread
        name = function.__name__.strip("_").replace("_", " ")
        progress(f"compiling kernel {number} of {len(missing)}: {name} (the first start only; they are kept on disk)")
        Kernel(function)


def _row_functions(*, half: bool, paged: str) -> tuple[_Function, ...]:
    attending, writing = _PAGED[half, paged]
    return (attending, writing, *((_add_norm_half, _gate_half) if half else (_add_norm_full, _gate_full)))


def _product_function(*, half: bool, result_half: bool) -> _Function:
    if not half:
        return _multiply_full
    return _multiply_half if result_half else _multiply_half_to_full


def _quantized_function(*, bits: int, result_half: bool) -> _Function:
    if bits == 8:
        return _multiply_int8 if result_half else _multiply_int8_to_full
    return _multiply_int4 if result_half else _multiply_int4_to_full
