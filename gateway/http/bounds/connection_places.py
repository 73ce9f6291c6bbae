"""How many connections each peer and key may have. Pure: connections are numbers, and decisions are returned.

A connection is *waiting* (no complete request yet, or its last answer has ended) or *working* (being answered, or
its body is being read). When places run out, the one that has waited longest is closed for a new one. So peers without
a key keep connections only while there is room. Working connections are limited for each key, and each tier leaves
some places to the tiers above it.
"""

from typing import Literal

import msgspec

from gateway.http.bounds.limits import ServerLimits

PlaceRefusal = Literal["peer", "key", "full"]


class Opening(msgspec.Struct, frozen=True, gc=False):
    """The decision on a new connection."""

    refused: PlaceRefusal | None = None
    evicted: int | None = None
    """The waiting connection to close, to make room."""


class ConnectionPlaces:
    """Counts connections by peer, and working ones by key."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._peers: dict[int, str] = {}
        self._of_peer: dict[str, int] = {}
        self._waiting: dict[int, None] = {}
        """Ordered by when they began to wait."""
        self._working: dict[int, str] = {}
        """By number: the connection's key."""
        self._of_key: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def working(self) -> int:
        return len(self._working)

    def open(self, number: int, peer: str) -> Opening:
        """Count a new connection. An empty `peer` has no limit of its own."""
        limits = self._limits
        if peer and self._of_peer.get(peer, 0) >= limits.max_connections_per_peer:
            return Opening("peer")
        evicted = None
        # At most `max_connections` work, so at least `probe_connections` wait before one is evicted. If every place
        # could work, each new connection would evict the one before it, and no health probe would be answered.
        if len(self._peers) >= limits.max_connections + limits.probe_connections:
            evicted = self.evict()
            if evicted is None:
                return Opening("full")
        self._peers[number] = peer
        if peer:
            self._of_peer[peer] = self._of_peer.get(peer, 0) + 1
        self._waiting[number] = None
        return Opening(None, evicted)

    def work(self, number: int, key: str, tiers_above: int) -> PlaceRefusal | None:
        """Let a connection work: its request has a valid key. A refused connection stays waiting.

        An empty `key` has no limit of its own.
        """
        limits = self._limits
        held = self._working.get(number)
        if held == key:
            return None
        kept = limits.connections_for_tiers_above(tiers_above)
        if held is None and len(self._working) >= limits.max_connections - kept:
            return "full"
        if key and self._of_key.get(key, 0) >= limits.max_connections_per_key:
            return "key"
        self._leave(number)
        self._waiting.pop(number, None)
        self._working[number] = key
        if key:
            self._of_key[key] = self._of_key.get(key, 0) + 1
        return None

    def wait(self, number: int) -> None:
        """The connection's answer has ended, and no further request has arrived."""
        self._leave(number)
        if number in self._peers:
            self._waiting.pop(number, None)
            self._waiting[number] = None

    def close(self, number: int) -> None:
        """Forget a connection that is closed."""
        self._leave(number)
        self._waiting.pop(number, None)
        peer = self._peers.pop(number, "")
        if peer:
            _drop(self._of_peer, peer)

    def evict(self) -> int | None:
        """Forget the connection that has waited longest, which is to be closed; None: none waits."""
        number = next(iter(self._waiting), None)
        if number is not None:
            self.close(number)
        return number

    def check_integrity(self) -> None:
        """Assert that each connection either waits or works, and that the counters agree."""
        assert self._waiting.keys().isdisjoint(self._working)
        assert self._waiting.keys() | self._working.keys() == self._peers.keys()
        assert sum(self._of_peer.values()) == sum(map(bool, self._peers.values()))
        assert sum(self._of_key.values()) == sum(map(bool, self._working.values()))
        assert all(self._of_peer.values())
        assert all(self._of_key.values())

    def _leave(self, number: int) -> None:
        key = self._working.pop(number, "")
        if key:
            _drop(self._of_key, key)


def _drop(counts: dict[str, int], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
