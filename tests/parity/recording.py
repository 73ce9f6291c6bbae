"""Graphs on a CPU: the work is done again over the same buffers, and its result lands where it landed before."""

from collections.abc import Callable

from torch import Tensor


class Recording:
    def __init__(self) -> None:
        self.captured = 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.captured += 1
        out = work().clone()

        def replay() -> None:
            out.copy_(work())

        return replay, out
