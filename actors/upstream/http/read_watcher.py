"""Waits for data on many sockets by one wait of the event loop.

trio waits for each socket with a task switch and two system calls, about as much as all else that an event of a stream
costs. Here a selector that knows all sockets is itself waited for, and whatever is readable is read in one go.
"""

import selectors
import socket
from collections.abc import Callable

import trio


class ReadWatcher:
    """`run` in a task as long as sockets are watched."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    async def run(self) -> None:
        """Call the functions of readable sockets until cancelled."""
        # Those of the standard library that wait in the kernel have a descriptor: epoll, kqueue.
        descriptor: int = self._selector.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            for key, _ in self._selector.select(0):
                key.data()

    def add(self, sock: socket.socket, on_readable: Callable[[], None]) -> None:
        """`on_readable` is called whenever there is something to receive. It must not raise."""
        self._selector.register(sock, selectors.EVENT_READ, on_readable)

    def remove(self, sock: socket.socket) -> None:
        """The counterpart of `add`."""
        self._selector.unregister(sock)

    def close(self) -> None:
        """Release the selector."""
        self._selector.close()
