"""Penstock alone in one cell under py-spy, if that is there: the functions that take the most time."""

import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

from benchmarks.upstream.cells.all_cells import Cell
from benchmarks.upstream.cells.speed_cells import warm_up
from benchmarks.upstream.figures import Sizes
from benchmarks.upstream.gateways.gateways import GatewayAbsentError
from benchmarks.upstream.stand import CellFailedError, Setting, Stand

_SHOWN = 40
_MAIN = "MainThread"
_SAMPLES_HZ = 200
_WRITE_S = 30.0


def profile(setting: Setting, name: str, cell: Cell, sizes: Sizes) -> int:
    """Run the cell, and print how often each function was on the stack and on top of it. Returns an exit status."""
    sampler = shutil.which("py-spy") or shutil.which("py-spy", path=str(setting.peers / "py-spy" / "bin"))
    if sampler is None:
        print("no profile: py-spy is not installed")
        return 0
    try:
        stand = Stand("penstock", setting)
    except GatewayAbsentError as reason:
        print(f"no profile: {reason}")
        return 1
    stacks = setting.job / "stacks"
    try:
        warm_up(stand, sizes)
        assert stand.processes is not None
        words = [sampler, "record", "--pid", str(stand.processes.pid), "--format", "raw", "--output", str(stacks)]
        words += ["--rate", str(_SAMPLES_HZ), "--duration", "100000", "--threads", "--function"]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as sampling:
            try:
                figures = cell.run(stand, sizes)
            finally:
                sampling.send_signal(signal.SIGINT)
                try:
                    _, said = sampling.communicate(timeout=_WRITE_S)
                except subprocess.TimeoutExpired:
                    sampling.kill()
                    _, said = sampling.communicate()
    except CellFailedError as reason:
        print(f"no profile: {name}: {reason}")
        return 1
    finally:
        stand.end()
    for figure in figures:
        print(f"{figure.name}: {figure.value:,.3f} {figure.unit}")
    if not stacks.exists():
        print(f"no profile: py-spy: {said.strip()[-300:]}")
        return 0
    _print(stacks)
    return 0


def _print(stacks: Path) -> None:
    """The event loop's thread in detail, the others as a whole: waiting threads are sampled, too."""
    inside: Counter[str] = Counter()
    on_top: Counter[str] = Counter()
    threads: Counter[str] = Counter()
    for line in stacks.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        threads[thread] += int(count)
        if _MAIN in thread and frames:
            on_top[frames[-1]] += int(count)
            for frame in set(frames):
                inside[frame] += int(count)
    samples = on_top.total()
    print("\nthe sampler slows down what it samples, the figures above included; samples by thread:")
    for thread, times in threads.most_common():
        print(f"{times:>8}  {thread}")
    for title, counts in (("on top of the event loop's stack", on_top), ("on its stack", inside)):
        print(f"\n{title}:")
        for frame, times in counts.most_common(_SHOWN):
            print(f"{100 * times / samples:6.1f} %  {frame}")
