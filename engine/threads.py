"""Number of threads for torch operations, and the OpenMP environment, which must be set before torch is imported."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def prepare_environment(*, alone: bool = False) -> None:
    """Set the variables that OpenMP reads once, at its start; call before importing torch. The user's values are kept.

    OpenMP's idle threads spin, by default for milliseconds. Where engines, event loop and clients share few cores, a
    spinning thread takes a core from one with work; a passive wait costs only microseconds. `alone`: no other work
    needs the cores, so idle threads spin (training runs nearly twice as fast).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "ACTIVE" if alone else "PASSIVE")


def set_threads(threads: int) -> None:
    """Set the number of threads, the calling one included, for torch operations started in the calling thread.

    torch keeps this number per calling thread, so engines with different numbers do not affect each other if each calls
    this function in its own thread.
    """
    import torch

    torch.set_num_threads(threads)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the context, torch operations of the calling thread use no other thread, to leave the cores to serving."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
