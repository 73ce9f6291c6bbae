"""Notices clients that hang up while nothing is read from or sent to them, with one task for all connections.

A reader task for each connection would cost memory and a switch for each request, and would not see the end behind
unread bytes (a pipelined request). The kernel's edge-triggered EPOLLRDHUP has neither disadvantage.
"""

import select
import socket
from typing import Protocol

import trio


class Watched(Protocol):
    """The receiver of a hang-up."""

    def hung_up(self) -> None:
        """The peer closed its side, or the connection broke."""


class HangupWatcher:
    """Owns one epoll object; `run` waits for it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}

    def watch(self, sock: socket.socket, watched: Watched) -> None:
        """Call `watched.hung_up` once when the peer is gone."""
        self._watched[sock.fileno()] = watched
        self._epoll.register(sock.fileno(), select.EPOLLRDHUP | select.EPOLLET)

    def forget(self, sock: socket.socket) -> None:
        """Must be called before the socket is closed."""
        self._epoll.unregister(sock.fileno())
        del self._watched[sock.fileno()]

    async def run(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for descriptor, _ in self._epoll.poll(0):
                self._watched[descriptor].hung_up()

    def close(self) -> None:
        """Close the epoll object; nothing may be watched any more."""
        self._epoll.close()
