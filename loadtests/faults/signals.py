"""Signals to a process that stays the same one: a pid that was given again to another process is not hit."""

import contextlib
import os
import signal
from typing import Self

from loadtests.model.errors import RunError


class TargetProcess:
    """A process by its pid. `close` it at the end; then it runs, if it had been stopped."""

    def __init__(self, name: str, pid: int) -> None:
        """Raises RunError."""
        self.name = name
        self.pid = pid
        self._descriptor = -1
        self._stopped = False
        if pid <= 1 or pid in {os.getpid(), os.getppid()}:
            raise RunError(f"--pid {name}={pid}: this is not a process to break; name the server's")
        try:
            os.kill(pid, 0)
            if hasattr(os, "pidfd_open"):
                self._descriptor = os.pidfd_open(pid)
        except (ProcessLookupError, OverflowError):
            raise RunError(f"--pid {name}={pid}: there is no such process") from None
        except OSError as error:
            raise RunError(f"--pid {name}={pid}: {error.strerror or error}") from None

    def send(self, number: signal.Signals) -> bool:
        """Whether the process was still there."""
        try:
            if self._descriptor >= 0:
                signal.pidfd_send_signal(self._descriptor, number)
            else:
                os.kill(self.pid, number)
        except OSError:
            return False
        self._stopped = number == signal.SIGSTOP or (self._stopped and number != signal.SIGCONT)
        return True

    def close(self) -> None:
        if self._stopped:
            self.send(signal.SIGCONT)
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
