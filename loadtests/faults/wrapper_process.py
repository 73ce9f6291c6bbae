"""Keeps a command running while its own standard input is open: so the command never outlives the load tester.

It prints the command's pid on a line, ends it by SIGTERM when the input ends (and by SIGKILL after a time), and has the
command's exit code.
"""

import os
import select
import signal
import subprocess
import sys

_LOOKS_EVERY_S = 0.1


def main() -> int:
    """Arguments: seconds to wait after SIGTERM, then the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the load tester, which then closes the input
    patience_s, command = float(sys.argv[1]), sys.argv[2:]
    try:
        # The command's output is this process's standard error, which is a file.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True)  # noqa: S603
    except OSError as error:
        print(f"! {error.strerror or error}", flush=True)  # noqa: T201
        return 127
    print(child.pid, flush=True)  # noqa: T201
    while child.poll() is None:
        readable, _, _ = select.select([0], [], [], _LOOKS_EVERY_S)
        if readable and not os.read(0, 1024):
            _end(child, patience_s)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _end(child: "subprocess.Popen[bytes]", patience_s: float) -> None:
    child.send_signal(signal.SIGCONT)  # a stalled process does not see SIGTERM
    child.terminate()
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


if __name__ == "__main__":
    sys.exit(main())
