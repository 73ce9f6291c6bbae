"""What runs beside the event loop, as actors see it. Each actor asks for the one thing that it needs of it."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

T = TypeVar("T")


class WorkerHandle(Protocol):
    """Sends commands to one thread and ends it; see `ThreadBridge`."""

    def send(self, command: Any) -> None: ...
    def abandon(self) -> None: ...
    async def join(self, timeout_s: float) -> bool: ...


class WorkerPool(Protocol):
    """A few threads for work that takes the processor for long."""

    async def run_in_thread(self, job: Callable[[], T]) -> T:
        """The result of `job()`, or what it raises; the event loop goes on meanwhile."""
        ...


class WorkerEvents(msgspec.Struct, frozen=True, tag=True, gc=False):
    """What a thread has posted to its actor since the last time."""

    posts: Sequence[Any]
    life: object = None
    """The actor that started the thread: its successor ignores what an earlier thread posts."""
