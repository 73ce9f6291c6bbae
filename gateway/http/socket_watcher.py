"""Notices what arrives on all connections, and clients that hang up, by one wait of the event loop.

trio waits for each socket with a task switch and two system calls. Here each socket is registered once, with an epoll
object of its own that is itself waited for. It is edge-triggered: nothing is to be undone while a connection does not
read, and `EPOLLRDHUP` shows the end of a client that has left unread bytes (a pipelined request).
"""

import select
import socket
from typing import Protocol

import trio


class Watched(Protocol):
    """A connection whose socket is watched."""

    def readable(self) -> None:
        """Something has arrived since the last call: bytes, or the end."""

    def hung_up(self) -> None:
        """The peer has closed its side, or the connection broke."""


class SocketWatcher:
    """`run` in a task as long as sockets are watched."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}

    def watch(self, sock: socket.socket, connection: Watched) -> None:
        """Call the connection whenever something arrives, also for what is there already."""
        self._watched[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def forget(self, sock: socket.socket) -> None:
        """Must be called before the socket is closed."""
        self._epoll.unregister(sock.fileno())
        del self._watched[sock.fileno()]

    async def run(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._notify()

    def _notify(self) -> None:
        # In a function of its own, or a local variable of the task would keep the last connection alive.
        for descriptor, events in self._epoll.poll(0):
            connection = self._watched[descriptor]
            if events != select.EPOLLIN:
                connection.hung_up()
            connection.readable()

    def close(self) -> None:
        """Close the epoll object; nothing may be watched any more."""
        self._epoll.close()
