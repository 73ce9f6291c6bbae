"""One mutant at a time in a copy of the tree: do the tests of its area notice, or else the type checker?"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Outcome = Literal["noticed", "survived", "hung", "mistyped"]
_LEAST_LIMIT_S = 20.0
_TIMES_THE_BASELINE = 6.0
_BASELINE_LIMIT_S = 600.0


class BrokenBaseline(Exception):  # noqa: N818  (it is about the tests, not the tool)
    """The tests fail, or run other code, without any mutation."""


class Baselines:
    """How long each set of tests may take: several times what it takes without any change."""

    def __init__(self) -> None:
        self._limits_s: dict[tuple[str, ...], float] = {}
        self._one_at_a_time = threading.Lock()

    def limit_s(self, tests: list[str], run: Callable[[], int | None]) -> float:
        """`run` gives the exit code of these tests without any change. Raises BrokenBaseline if that is not 0."""
        key = tuple(tests)
        with self._one_at_a_time:
            if key not in self._limits_s:
                began = time.monotonic()
                if run() != 0:
                    raise BrokenBaseline(f"without any change these fail: {' '.join(tests)}")
                self._limits_s[key] = max(_LEAST_LIMIT_S, _TIMES_THE_BASELINE * (time.monotonic() - began))
            return self._limits_s[key]


class Copy:
    """A copy of the files that git knows or would add."""

    def __init__(self, root: Path, to: Path, baselines: Baselines) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (root / name).is_file():
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, to / name)
        self.root = to
        self._baselines = baselines

    def trial(self, path: Path, mutated: str, tests: list[str]) -> Outcome:
        """What the tests say of this file with this text. Raises BrokenBaseline."""
        if not tests:
            raise BrokenBaseline(f"no test concerns {path}")
        limit_s = self._baselines.limit_s(tests, lambda: self._run(tests, _BASELINE_LIMIT_S))
        place = self.root / path
        before = place.read_bytes()
        try:
            place.write_text(mutated)
            code = self._run(tests, limit_s)
            if code == 0 and self._mypy(path) == 1:
                # It cannot land: `make test` begins with the type checker.
                return "mistyped"
        finally:
            place.write_bytes(before)
        # 2 to 5: nothing could even be collected.
        return "hung" if code is None else "survived" if code == 0 else "noticed"

    def _run(self, tests: list[str], limit_s: float) -> int | None:
        """The exit code of pytest; None: it took too long."""
        options = ["-qx", "--timeout=60", "-p", "no:cacheprovider", "-p", "tests.mutants.quick"]
        return self._call(["pytest", *options, *tests], limit_s)

    def _mypy(self, path: Path) -> int | None:
        """The exit code of mypy on one file; 1: it has found an error."""
        return self._call(["mypy", str(path)], _BASELINE_LIMIT_S)

    def _call(self, module: list[str], limit_s: float) -> int | None:
        command = [sys.executable, "-m", *module]
        environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        quiet = subprocess.DEVNULL
        with subprocess.Popen(
            command, cwd=self.root, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
        ) as process:
            try:
                return process.wait(limit_s)
            except subprocess.TimeoutExpired:
                return None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
