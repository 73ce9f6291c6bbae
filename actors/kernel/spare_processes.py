"""Processes that are started before they are needed, so that their program has imported all it needs by then."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress

import trio

Process = subprocess.Popen[bytes]
_END_S = 2.0


def start_process(command: Sequence[str]) -> Process:
    """With pipes for standard input and output. Call it in the event loop.

    Not by trio: it starts processes in a thread that ends when it is idle, and a child that ends with its parent would
    end with that thread (`engine/child.py`).
    """
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603  (ours)


def end_process(process: Process) -> None:
    """Kill and reap it, and close its pipes."""
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(OSError):
            pipe.close()


class _Spare:
    def __init__(self, process: Process) -> None:
        self.process = process
        self.taken = False
        self.left = trio.Event()


class SpareProcesses:
    """At most one for each command. All calls are in the event loop, at whose end they end, too."""

    def __init__(self) -> None:
        self._spares: dict[tuple[str, ...], _Spare] = {}

    def keep(self, command: tuple[str, ...]) -> None:
        """Start a spare one, if there is none."""
        spare = self._spares.get(command)
        if spare is not None and spare.process.poll() is None:
            return
        self._drop(command)
        self._spares[command] = spare = _Spare(start_process(command))
        trio.lowlevel.spawn_system_task(_end_if_not_taken, spare)

    def take(self, command: tuple[str, ...]) -> Process:
        """The spare one, or one that is started now. It is the caller's from here on."""
        spare = self._spares.get(command)
        if spare is not None and spare.process.poll() is None:
            spare.taken = True
            self._drop(command)
            return spare.process
        return start_process(command)

    def _drop(self, command: tuple[str, ...]) -> None:
        spare = self._spares.pop(command, None)
        if spare is not None:
            spare.left.set()


async def _end_if_not_taken(spare: _Spare) -> None:
    try:
        await spare.left.wait()
    finally:
        if not spare.taken:
            end_process(spare.process)
