"""Who may hold how many connections. Pure: connections are numbers, and what is refused or closed is said.

A connection is *waiting* (nothing whole was asked on it, or its last answer has ended) or *working* (it is answered, or
a body is read). When places run short the one that waits the longest gives way to a newcomer. So peers without a key
hold places only as long as nobody else wants them; what works is bounded for each key, and every tier leaves
some places to those above it.
"""

from typing import Literal

import msgspec

from gateway.http.bounds.limits import ServerLimits

PlaceRefusal = Literal["peer", "key", "full"]


class Opening(msgspec.Struct, frozen=True, gc=False):
    """What becomes of a newcomer."""

    refused: PlaceRefusal | None = None
    gives_way: int | None = None
    """Close this one for it."""


class ConnectionPlaces:
    """Counts connections by peer, and those that work by key."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._peers: dict[int, str] = {}
        self._of_peer: dict[str, int] = {}
        self._waiting: dict[int, None] = {}
        """In the order in which they began to wait."""
        self._working: dict[int, str] = {}
        """With the key of each."""
        self._of_key: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def working(self) -> int:
        """How many work."""
        return len(self._working)

    def open(self, number: int, peer: str) -> Opening:
        """A connection has come. An empty `peer` has no bound of its own."""
        limits = self._limits
        if peer and self._of_peer.get(peer, 0) >= limits.max_connections_per_peer:
            return Opening("peer")
        gives_way = None
        # Those that work are no more than `max_connections`: so many more wait at least before one gives way, or else,
        # while all work, each newcomer would end the one before it, and no probe would live long enough to be answered.
        if len(self._peers) >= limits.max_connections + limits.probe_connections:
            gives_way = next(iter(self._waiting), None)
            if gives_way is None:
                return Opening("full")
            self.close(gives_way)
        self._peers[number] = peer
        if peer:
            self._of_peer[peer] = self._of_peer.get(peer, 0) + 1
        self._waiting[number] = None
        return Opening(None, gives_way)

    def work(self, number: int, key: str, tiers_above: int) -> PlaceRefusal | None:
        """A request has come whose key is good. What is refused goes on waiting.

        An empty `key` has no bound of its own.
        """
        limits = self._limits
        held = self._working.get(number)
        if held == key:
            return None
        kept = min(tiers_above * limits.tier_connections, limits.max_connections // 2) if tiers_above else 0
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
        """The answer has ended, and no other is asked for yet."""
        self._leave(number)
        if number in self._peers:
            self._waiting.pop(number, None)
            self._waiting[number] = None

    def close(self, number: int) -> None:
        """It has gone, or is being closed."""
        self._leave(number)
        self._waiting.pop(number, None)
        peer = self._peers.pop(number, "")
        if peer:
            _drop(self._of_peer, peer)

    def check_integrity(self) -> None:
        """Each connection waits or works, and the counts are theirs."""
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
