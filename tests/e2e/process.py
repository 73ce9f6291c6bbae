"""The gateway as a process of its own, started as a person starts it."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.patience import PATIENCE_S


def until(what: Callable[[], bool]) -> None:
    """For what happens in a process, of which nobody hears."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class GatewayProcess:
    """Started by the command line; `url` is where it says that it serves."""

    def __init__(self, *arguments: str, log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli.main", "serve", "--port", "0", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=log.parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        said = self._read_until(re.compile(rb"serving .* on (http://\S+)\n"))
        self.url = said[1].decode()
        self._said = said.string

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def said(self) -> str:
        """On stdout, when it began to serve."""
        return self._said.decode()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """The exit code."""
        return self._process.wait(seconds)

    def end(self) -> None:
        """Whatever state it is in."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read_until(self, wanted: re.Pattern[bytes]) -> re.Match[bytes]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        said = b""
        deadline = time.monotonic() + PATIENCE_S
        while (found := wanted.search(said)) is None:
            ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
            part = os.read(descriptor, 65536) if ready else b""
            if not part:
                self.end()
                raise AssertionError(f"the gateway did not start; it said {said!r}, and on stderr:\n{self.log}")
            said += part
        return found
