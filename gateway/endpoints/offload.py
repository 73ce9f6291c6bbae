"""Decodes large bodies in a worker thread, so that they do not block the event loop."""

from collections.abc import Callable
from typing import TypeVar

from actors.kernel.thread_bridge import LongWork

T = TypeVar("T")

_AT_ONCE_BYTES = 64 * 1024
"""A body up to this size is decoded within about two milliseconds, whatever it holds; a thread would cost more."""
_long_work = LongWork()


async def reading(size: int, work: Callable[[], T]) -> T:
    """Run `work`, which decodes a body of `size` bytes, in a thread if that pays; returns or raises what it does."""
    if size <= _AT_ONCE_BYTES:
        return work()
    return await _long_work.run(work)
