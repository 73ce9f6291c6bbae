"""What is written down about the machine that the load tester runs on."""

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

from loadtests.model.run_record import RunMachine

_TIMEX_BYTES = 512
"""More than a struct timex has."""
_STA_UNSYNC = 0x40
_timex = struct.Struct("24xq8xi").unpack_from
"""Its `maxerror` in microseconds, and its `status`."""


def this_machine() -> RunMachine:
    """As the record shows it."""
    return RunMachine(
        name=platform.node(),
        cpu=_cpu() or platform.processor() or platform.machine(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def clock_error_s() -> float | None:
    """How far this machine's clock may be off, as far as the kernel knows (adjtimex(2)); None: it does not know."""
    if sys.platform != "linux":
        return None
    asked = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(asked)
    except (OSError, AttributeError):
        return None
    most_us, status = _timex(asked.raw)
    if state < 0 or status & _STA_UNSYNC:
        return None
    return float(most_us) / 1e6


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
