"""Processes that are started before they are needed, so that their program has imported all it needs by then."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress

import trio

Process = subprocess.Popen[bytes]
_END_S = 2.0
_BEFORE_START_S = 3.0
"""An engine that was started again has answers to go on with: the imports of a spare process would take a core
from it."""


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
    def __init__(self) -> None:
        self.process: Process | None = None
        """None: it has not been started yet."""
        self.left = trio.Event()

    def waits(self) -> bool:
        """Whether there is a process, and it runs."""
        return self.process is not None and self.process.poll() is None


class SpareProcesses:
    """At most one for each command. All calls are in the event loop, at whose end they end, too."""

    def __init__(self) -> None:
        self._spares: dict[tuple[str, ...], _Spare] = {}

    @property
    def pids(self) -> list[int]:
        """Of those that wait."""
        return [spare.process.pid for spare in self._spares.values() if spare.process is not None]

    def keep(self, command: tuple[str, ...]) -> None:
        """Start a spare one soon, if there is none."""
        spare = self._spares.get(command)
        if spare is not None and (spare.process is None or spare.waits()):
            return
        self._drop(command)
        self._spares[command] = spare = _Spare()
        trio.lowlevel.spawn_system_task(_keep_until_left, command, spare)

    def take(self, command: tuple[str, ...]) -> Process:
        """The spare one, or one that is started now. It is the caller's from here on."""
        spare = self._spares.get(command)
        process = spare.process if spare is not None and spare.waits() else None
        if spare is not None and process is not None:
            spare.process = None
        self._drop(command)
        return process or start_process(command)

    def _drop(self, command: tuple[str, ...]) -> None:
        spare = self._spares.pop(command, None)
        if spare is not None:
            spare.left.set()


async def _keep_until_left(command: tuple[str, ...], spare: _Spare) -> None:
    with trio.move_on_after(_BEFORE_START_S):
        await spare.left.wait()
        return
    spare.process = start_process(command)
    try:
        await spare.left.wait()
    finally:
        if spare.process is not None:
            end_process(spare.process)
