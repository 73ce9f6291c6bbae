"""Notices clients that hang up while nothing is read from or sent to them: one task for all connections.

A reader task a connection would cost memory and a switch for each request, and is blind as long as unread bytes lie in
front of the end (a pipelined request, then gone). The kernel's edge-triggered EPOLLRDHUP is neither.
"""

import select
import socket
from typing import Protocol

import trio


class Watched(Protocol):
    """What wants to know."""

    def hung_up(self) -> None:
        """The peer sends nothing more, or the connection broke."""


class HangupWatcher:
    """Owns one epoll object; `run` waits for it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}

    def watch(self, sock: socket.socket, watched: Watched) -> None:
        """Tell `watched` once when the peer is gone."""
        self._watched[sock.fileno()] = watched
        self._epoll.register(sock.fileno(), select.EPOLLRDHUP | select.EPOLLET)

    def forget(self, sock: socket.socket) -> None:
        """Must be called before the socket is closed."""
        self._epoll.unregister(sock.fileno())
        del self._watched[sock.fileno()]

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for descriptor, _ in self._epoll.poll(0):
                self._watched[descriptor].hung_up()

    def close(self) -> None:
        """When nothing is watched any more."""
        self._epoll.close()
