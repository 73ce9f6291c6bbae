"""Signals to one process, and what is undone at the end."""

import signal
import subprocess
import sys

import pytest

from loadtests.faults.signals import TargetProcess
from loadtests.model.errors import RunError
from tests.e2e.process import until
from tests.loadtests.faults.test_own_process import SLEEPS, state_of


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_was_stopped_goes_on_when_it_is_let_go() -> None:
    process = subprocess.Popen(SLEEPS)
    try:
        with TargetProcess("server", process.pid) as target:
            assert target.send(signal.SIGSTOP)
            until(lambda: state_of(process.pid) == "T")
        until(lambda: state_of(process.pid) in "SR")
    finally:
        process.kill()
        process.wait()
    with pytest.raises(RunError, match="there is no such process"):
        TargetProcess("server", process.pid)


@pytest.mark.parametrize("pid", [0, 1])
def test_what_must_not_be_broken(pid: int) -> None:
    with pytest.raises(RunError, match="not a process to break"):
        TargetProcess("server", pid)
