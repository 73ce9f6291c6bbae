"""Notices clients that hang up while nothing is read from or sent to them, with one task for all connections.

A reader task for each connection would cost memory and a switch for each request, and would not see the end behind
unread bytes (a pipelined request). The kernel's edge-triggered EPOLLRDHUP has neither disadvantage.
"""

import select
import socket
from collections.abc import Callable

import trio


class HangupWatcher:
    """Owns one epoll object; `run` waits for it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}

    def watch(self, sock: socket.socket, hung_up: Callable[[], None]) -> None:
        """Call `hung_up` once when the peer has closed its side, or the connection broke."""
        self._watched[sock.fileno()] = hung_up
        self._epoll.register(sock.fileno(), select.EPOLLRDHUP | select.EPOLLET)

    def forget(self, sock: socket.socket) -> None:
        """Must be called before the socket is closed."""
        self._epoll.unregister(sock.fileno())
        del self._watched[sock.fileno()]

    async def run(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for descriptor, _ in self._epoll.poll(0):
                self._watched[descriptor]()

    def close(self) -> None:
        """Close the epoll object; nothing may be watched any more."""
        self._epoll.close()
