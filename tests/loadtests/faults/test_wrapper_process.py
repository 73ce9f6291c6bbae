"""A command never outlives the load tester: when its wrapper's input ends, so does the command."""

import subprocess
import sys

from tests.loadtests.faults.test_own_process import SLEEPS, is_there
from tests.paths import ROOT
from tests.patience import PATIENCE_S


def wrapped(*command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "loadtests.faults.wrapper_process", "10", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )


def test_the_command_ends_with_the_input() -> None:
    with wrapped(*SLEEPS) as process:
        pid = int(process.stdout.readline())
        assert is_there(pid)
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 128 + 15
    assert not is_there(pid)


def test_it_has_the_command_s_exit_code() -> None:
    with wrapped(sys.executable, "-c", "raise SystemExit(7)") as process:
        assert process.stdout.readline().strip().isdigit()
        assert process.wait(PATIENCE_S) == 7


def test_what_cannot_be_started() -> None:
    with wrapped("/no/such/program") as process:
        assert process.stdout.readline().startswith(b"! No such file")
        assert process.wait(PATIENCE_S) == 127
