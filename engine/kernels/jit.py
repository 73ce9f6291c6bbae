"""Compilation of the CPU kernels by Numba: no Python objects, no GIL, cached on disk."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba.core import config as _config

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

carray: Any = numba.carray  # type: ignore[attr-defined]
config: Any = _config


def _cache_directory() -> str:
    """A cache folder per state of the kernel sources.

    Numba detects changes in a kernel's file, but not in the files of the functions that it calls.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py"))))
    name = f"kernels-{digest.hexdigest()[:16]}"
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "penstock"
    for parent in (here / "__pycache__", user):
        try:
            (parent / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(parent / name, os.W_OK):
            return str(parent / name)
    # Not reused by the next process, but this one can run.
    return tempfile.mkdtemp(prefix=name)


if not config.CACHE_DIR:
    config.CACHE_DIR = _cache_directory()


def is_on_disk(function: Callable[..., object]) -> bool:
    """Whether `function` is in the cache for these sources."""
    name = f"*.{function.__name__}-{function.__code__.co_firstlineno}.*.nbi"
    return any(Path(config.CACHE_DIR).rglob(name))


def jit(function: Callable[Arguments, Result], *, fastmath: Any = False) -> Callable[Arguments, Result]:
    """Compile at the first call with each combination of types. Integer division by zero is undefined."""
    compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=fastmath)(function)
    return cast("Callable[Arguments, Result]", compiled)


def fast_jit(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """As `jit`; sums may be reassociated and products fused, but infinities and NaN are preserved."""
    return jit(function, fastmath={"reassoc", "contract", "nsz", "arcp"})
