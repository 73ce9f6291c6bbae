"""Large bodies are read beside the event loop, so that nobody else's stream waits for them."""

from collections.abc import Callable
from typing import TypeVar

from actors.kernel.thread_bridge import LongWork

T = TypeVar("T")

_AT_ONCE_BYTES = 64 * 1024
"""What is not longer is read within about two milliseconds, whatever it holds; a thread would cost more."""
_long_work = LongWork()


async def reading(size: int, work: Callable[[], T]) -> T:
    """The result of `work`, which reads a body of `size` bytes, or what it raises."""
    if size <= _AT_ONCE_BYTES:
        return work()
    return await _long_work.run(work)
