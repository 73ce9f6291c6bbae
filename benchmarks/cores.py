"""Keeps a server under measurement and the client that measures it on different cores."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def apart_from_this() -> Iterator[None]:
    """What is started within has all cores but the last; afterwards this process has the last, if there are two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        yield
        return
    os.sched_setaffinity(0, cores[:-1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores[-1:])
