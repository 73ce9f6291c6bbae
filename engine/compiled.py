"""Compiled kernels as plain functions of one address, run by the calling thread alone or by torch's OpenMP team."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cfunc, types

from engine import attention_kernel, row_kernels
from engine.attention_kernel import attend, write_kv
from engine.jit import carray
from engine.row_kernels import add_norm, gate
from engine.simd import openmp_library

_ATTENTION = attention_kernel.ARGUMENTS
_ROW = row_kernels.ARGUMENTS
_HALF = np.uint16(0)
_FULL = np.float32(0)


def _attend_half(at: Any) -> None:
    attend(carray(at, _ATTENTION, np.int64), _HALF)


def _attend_full(at: Any) -> None:
    attend(carray(at, _ATTENTION, np.int64), _FULL)


def _write_kv_half(at: Any) -> None:
    write_kv(carray(at, _ATTENTION, np.int64), _HALF)


def _write_kv_full(at: Any) -> None:
    write_kv(carray(at, _ATTENTION, np.int64), _FULL)


def _add_norm_half(at: Any) -> None:
    add_norm(carray(at, _ROW, np.int64), _HALF)


def _add_norm_full(at: Any) -> None:
    add_norm(carray(at, _ROW, np.int64), _FULL)


def _gate_half(at: Any) -> None:
    gate(carray(at, _ROW, np.int64), _HALF)


def _gate_full(at: Any) -> None:
    gate(carray(at, _ROW, np.int64), _FULL)


class Compiled:
    """The kernels for one element type: bfloat16 (`half`) or float32. Calls release the GIL."""

    def __init__(self, *, half: bool) -> None:
        self._kept: list[Any] = []
        self.attend = self._compile(_attend_half if half else _attend_full)
        self.write_kv = self._compile(_write_kv_half if half else _write_kv_full)
        self.add_norm = self._compile(_add_norm_half if half else _add_norm_full)
        self.gate = self._compile(_gate_half if half else _gate_full)

    def _compile(self, function: Callable[[Any], None]) -> "Kernel":
        compiled = cfunc(types.void(types.voidptr), cache=True, error_model="numpy")(function)
        self._kept.append(compiled)
        return Kernel(int(compiled.address or 0))


class Kernel:
    """One compiled function at an address."""

    _team = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)(
        ctypes.cast(openmp_library().GOMP_parallel, ctypes.c_void_p).value or 0
    )

    def __init__(self, address: int) -> None:
        self._address = address
        self.alone: Callable[[int], None] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
        """Run on the calling thread; the argument is the address of the block of arguments."""

    def together(self, arguments: int, threads: int) -> None:
        """Run on a team of threads, the calling one included; the block of arguments names the same number."""
        self._team(self._address, arguments, threads, 0)
