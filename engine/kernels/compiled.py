"""Compiled kernels as functions of one argument address, run by the calling thread or by torch's OpenMP team."""

import ctypes
from collections.abc import Callable, Collection, Mapping
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from numba import cfunc, types

from engine.kernels import attention_kernel, product_kernel, program_kernel, quantized_product, row_kernels
from engine.kernels.jit import carray, is_on_disk
from engine.kernels.simd import openmp_library

_Function = Callable[[Any], None]
_KINDS: Mapping[str, Any] = {"half": np.uint16(0), "full": np.float32(0), "int8": np.int8(0), "int4": np.uint8(0)}
"""By name, how kernels are told of an element type: `half` is bfloat16, `full` float32."""
_kernel: Any = None
_words = 0
_kinds: tuple[Any, ...] = ()


def _entry(at: Any) -> None:
    """The code of every function that is compiled; each has its own values of these three globals."""
    _kernel(carray(at, _words, np.int64), *_kinds)


@cache
def _function(kernel: Any, words: int, *kinds: str) -> _Function:
    """Call `kernel`, whose argument block has so many words, for these element types.

    It is a copy of `_entry` rather than a closure, because Numba finds no closure over a kernel in its cache on disk.
    """
    name = "_".join([kernel.__name__, *kinds])
    own = {"_kernel": kernel, "_words": words, "_kinds": tuple([_KINDS[kind] for kind in kinds])}
    function = FunctionType(_entry.__code__, {**globals(), **own}, name)
    function.__qualname__ = name
    return function


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


def row_code(*, half: bool, paged: str) -> RowCode:
    """For bfloat16 (`half`) or float32; `paged`: dtype of the KV pages, "float32", "bfloat16" or "int8"."""
    return RowCode(*map(Kernel, _row_functions(half=half, paged=paged)))


def product_code(*, half: bool, result_half: bool) -> Kernel:
    """Products of bfloat16 (`half`) or float32 weights; with float32 weights the result is float32."""
    return Kernel(_product_function(half=half, result_half=result_half))


def quantized_code(*, bits: int, result_half: bool) -> Kernel:
    """Products of bfloat16 inputs with quantized weights."""
    return Kernel(_quantized_function(bits=bits, result_half=result_half))


def program_code() -> Kernel:
    """A sequence of kernels: see `engine.kernels.program_kernel`."""
    return Kernel(_program_function())


def compile_missing(
    progress: Callable[[str], None], *, half: bool, paged: str | None = None, bits: Collection[int] = ()
) -> None:
    """Compile the kernels that a model needs and that are not cached; `progress` is called before each one.

    `paged`: None for an encoder, which has no KV pages. `bits`: of quantized weights. Cached kernels load in
    milliseconds and are not reported.
    """
    wanted = [_product_function(half=half, result_half=True), _product_function(half=half, result_half=False)]
    if paged is not None:
        wanted += [*_row_functions(half=half, paged=paged), _program_function()]
    if bits:
        wanted += [_quantized_function(bits=size, result_half=True) for size in sorted(bits)]
        wanted.append(_quantized_function(bits=8, result_half=False))
    missing = [function for function in dict.fromkeys(wanted) if not is_on_disk(function)]
    for number, function in enumerate(missing, 1):
        if is_on_disk(function):
            continue  # compiled meanwhile by another engine's thread
        name = function.__name__.replace("_", " ")
        progress(f"compiling kernel {number} of {len(missing)}: {name} (the first start only; they are kept on disk)")
        Kernel(function)


def warm_up() -> None:
    """Load what the compiler itself needs, with a kernel from the cache, if it is there."""
    if is_on_disk(_program_function()):
        program_code()


def _row_functions(*, half: bool, paged: str) -> list[_Function]:
    like, page = _kind(half=half), "int8" if paged == "int8" else _kind(half=paged == "bfloat16")
    kernels = (attention_kernel.attend, attention_kernel.write_kv)
    return [
        *[_function(kernel, attention_kernel.ARGUMENTS, like, page) for kernel in kernels],
        *[_function(kernel, row_kernels.ARGUMENTS, like) for kernel in (row_kernels.add_norm, row_kernels.gate)],
    ]


def _product_function(*, half: bool, result_half: bool) -> _Function:
    if not half:
        return _function(product_kernel.multiply_full, product_kernel.ARGUMENTS)
    return _function(product_kernel.multiply_half, product_kernel.ARGUMENTS, _kind(half=result_half))


def _quantized_function(*, bits: int, result_half: bool) -> _Function:
    kinds = f"int{bits}", _kind(half=result_half)
    return _function(quantized_product.multiply_packed, quantized_product.ARGUMENTS, *kinds)


def _program_function() -> _Function:
    return _function(program_kernel.run_program, program_kernel.ARGUMENTS)


def _kind(*, half: bool) -> str:
    return "half" if half else "full"
