"""Waits for data on many sockets by one wait of the event loop.

trio waits for each socket with a task switch and two system calls, about as much as all else that an event of a stream
costs. Here a selector that knows all sockets is itself waited for, and whatever is readable is read in one go.
"""

import select
import selectors
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

_AT_ONCE = 64
"""Sockets that are read before other tasks run."""


class _Poller(Protocol):
    """What is used of `select.epoll`."""

    def fileno(self) -> int: ...

    def register(self, fd: int, eventmask: int, /) -> None: ...

    def unregister(self, fd: int, /) -> None: ...

    def poll(self, timeout: float, maxevents: int, /) -> Sequence[tuple[int, int]]:
        """Descriptors that are readable or broken, and how."""

    def close(self) -> None: ...


class ReadWatcher:
    """`run` in a task as long as sockets are watched."""

    def __init__(self) -> None:
        self._poller: _Poller = select.epoll() if hasattr(select, "epoll") else _AnySelector()
        self._on_readable: dict[int, Callable[[], None]] = {}

    async def run(self) -> None:
        """Call the functions of readable sockets until cancelled."""
        descriptor, poll, of = self._poller.fileno(), self._poller.poll, self._on_readable.get
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            left = _AT_ONCE
            while left > 0:
                readable = poll(0, left)
                if not readable:
                    break
                left -= len(readable)
                for each, _ in readable:
                    on_readable = of(each)
                    if on_readable is not None:  # else removed by one of those before
                        on_readable()

    def add(self, sock: socket.socket, on_readable: Callable[[], None]) -> None:
        """`on_readable` is called whenever there is something to receive. It must not raise."""
        descriptor = sock.fileno()
        self._poller.register(descriptor, _READABLE)
        self._on_readable[descriptor] = on_readable

    def remove(self, sock: socket.socket) -> None:
        """The counterpart of `add`, before the socket is closed."""
        descriptor = sock.fileno()
        del self._on_readable[descriptor]
        self._poller.unregister(descriptor)

    def close(self) -> None:
        """Release the selector."""
        self._poller.close()


class _AnySelector:
    """A `_Poller` where there is no epoll: on kqueue, which has a descriptor, too."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def fileno(self) -> int:
        descriptor: int = self._selector.fileno()  # of all that wait in the kernel
        return descriptor

    def register(self, fd: int, _mask: int, /) -> None:
        self._selector.register(fd, selectors.EVENT_READ)

    def unregister(self, fd: int, /) -> None:
        self._selector.unregister(fd)

    def poll(self, timeout: float, maxevents: int, /) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(timeout)[:maxevents]]

    def close(self) -> None:
        self._selector.close()


_READABLE: int = getattr(select, "EPOLLIN", selectors.EVENT_READ)
