"""A server under measurement with all that it starts: paused between its turns, and ended as a whole."""

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

_END_S = 20.0
_TAIL_LINES = 5


class ProcessGroup:
    """A process in a session of its own, with its output in `log`."""

    def __init__(
        self, name: str, words: list[str], environment: dict[str, str], job: Path, cwd: Path | None = None
    ) -> None:
        """Start it. `environment`: what is added to this process's; `cwd` None: this process's folder."""
        self.log = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=job)) / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                words,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment},
                cwd=cwd,
                start_new_session=True,
            )

    def tail(self) -> str:
        """The last lines that it wrote."""
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def pause(self) -> None:
        """Stop all its processes until `resume`, since even an idle server may poll."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """End it and all that it started."""
        self.resume()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        """Signal the whole process group, which may be empty if the server has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
