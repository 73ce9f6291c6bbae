"""How many threads an engine's numbers get, and what the OpenMP runtime must be told before it is loaded."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def prepare_environment(*, alone: bool = False) -> None:
    """Set what OpenMP reads once, at its start; call before anything imports torch. What the user set is kept.

    The runtime's threads spin while they wait, by default for milliseconds. Where engines, event loop and clients
    share few cores, a spinning thread takes the core from one that has work; a passive wait costs microseconds.
    `alone`: nobody else wants the cores, so spinning is right (training goes nearly twice as fast).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "ACTIVE" if alone else "PASSIVE")


def set_threads(threads: int) -> None:
    """Give the calling thread's torch operations this many threads (itself included).

    torch keeps the number for each thread that starts parallel work, so engines with other numbers do not disturb
    each other as long as each calls this inside its own thread.
    """
    import torch

    torch.set_num_threads(threads)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep the calling thread's torch operations to itself for a while: others need the cores more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
