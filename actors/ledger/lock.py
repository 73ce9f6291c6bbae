"""One process, one ledger: two would each take the other's open rows for those of a crash."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.kernel.errors import ServiceFailed


@contextmanager
def ledger_lock(path: Path | str) -> Iterator[None]:
    """Hold `PATH.lock` as long as the ledger is kept; the system frees it with the process. ":memory:" needs none.

    Raises ServiceFailed: another process holds it, or the file cannot be made.
    """
    if str(path) == ":memory:":
        yield
        return
    try:
        file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServiceFailed(f"the ledger cannot be opened: {error.strerror}: {path}") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceFailed(
                f"the ledger {path} is kept by another process: stop that one, or set [ledger] path to another file"
            ) from None
        yield
    finally:
        os.close(file)
