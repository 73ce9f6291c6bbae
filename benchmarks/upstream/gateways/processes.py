"""A gateway's processes: started on one core, measured, stopped between its turns, and ended."""

import contextlib
import os
from pathlib import Path

import msgspec

from benchmarks.process_group import ProcessGroup

ROOT = Path(__file__).resolve().parents[3]
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# In /proc/PID/stat after the name, counted from the state.
_SESSION, _USER, _SYSTEM = 3, 11, 12


class Command(msgspec.Struct, frozen=True):
    """How a process is started, in the repository's folder."""

    words: list[str]
    environment: dict[str, str] = {}


class Processes(ProcessGroup):
    """A process and all that it started, recognised by their session."""

    def __init__(self, name: str, command: Command, job: Path, core: int | None) -> None:
        """Start it; children inherit the core."""
        self._pids: list[int] = []
        cores = os.sched_getaffinity(0)
        try:
            if core is not None:
                os.sched_setaffinity(0, {core})
            super().__init__(name, command.words, command.environment, job, ROOT)
        finally:
            os.sched_setaffinity(0, cores)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def look(self) -> None:
        """Find all its processes. It takes milliseconds, so it is not done within a measurement."""
        self._pids = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                fields = _stat(int(entry.name))
                if fields and int(fields[_SESSION]) == self.pid:
                    self._pids.append(int(entry.name))

    def cpu_s(self) -> float:
        """User and system time of the processes that the last look found."""
        found = [fields for pid in self._pids if (fields := _stat(pid))]
        return sum(int(fields[_USER]) + int(fields[_SYSTEM]) for fields in found) / _TICKS

    def resident_bytes(self) -> int:
        """Sum of the resident memory of the processes that the last look found; shared pages count in each."""
        total = 0
        for pid in self._pids:
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        return total


def _stat(pid: int) -> list[str]:
    """The fields of a process's statistics after its name; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []
