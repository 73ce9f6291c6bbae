"""What a child process does first: it ends with its parent, however that ends, and on its command only."""

import ctypes
import os
import signal
import sys
from io import FileIO

_PR_SET_PDEATHSIG = 1


def end_with_parent(*ignored: signal.Signals) -> FileIO:
    """Called before anything else. Returns what was standard output; output of libraries now goes to standard error.

    On Linux the kernel kills this process when the thread that started it ends; elsewhere it notices when its pipe is
    closed. `ignored`: signals that reach the whole terminal or group, of which the parent decides.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for each in ignored:
        signal.signal(each, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    assert isinstance(out, FileIO)
    return out
