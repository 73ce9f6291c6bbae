"""What is written down about the machine that the load tester runs on."""

import os
import platform
from pathlib import Path

from loadtests.model.run_record import RunMachine


def this_machine() -> RunMachine:
    """As the record shows it."""
    return RunMachine(
        name=platform.node(),
        cpu=_cpu() or platform.processor() or platform.machine(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
