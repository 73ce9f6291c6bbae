"""Counts the bytes of request bodies in memory, by key and by peer. Pure."""

from typing import Literal

from gateway.errors import HttpError
from gateway.http.bounds.limits import ServerLimits

Scope = Literal["key", "peer", "total"]


class BodyBook:
    """Counters for each key, for each peer, and in total."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._keys: dict[str, int] = {}
        self._peers: dict[str, int] = {}
        self.total = 0

    def take(self, key: str, peer: str, size: int, tiers_above: int = 0) -> Scope | None:
        """Count `size` more bytes; or count nothing and return which limit they would exceed.

        An empty key or peer has no limit of its own. Each tier leaves some of the total to those above it.
        """
        limits = self._limits
        if key and self._keys.get(key, 0) + size > limits.body_memory_per_key_bytes:
            return "key"
        if peer and self._peers.get(peer, 0) + size > limits.body_memory_per_peer_bytes:
            return "peer"
        if self.total + size > limits.body_memory_bytes - limits.body_memory_for_tiers_above(tiers_above):
            return "total"
        self._add(key, peer, size)
        return None

    def give(self, key: str, peer: str, size: int) -> None:
        self._add(key, peer, -size)

    def check_integrity(self) -> None:
        """Assert that no counter is negative or kept at zero, and that none exceeds the total."""
        for part in (self._keys, self._peers):
            assert all(size > 0 for size in part.values())
            assert sum(part.values()) <= self.total

    def _add(self, key: str, peer: str, size: int) -> None:
        self.total += size
        if key:
            _change(self._keys, key, size)
        if peer:
            _change(self._peers, peer, size)


def _change(part: dict[str, int], name: str, size: int) -> None:
    held = part.get(name, 0) + size
    if held:
        part[name] = held
    else:
        part.pop(name, None)


class BodyAccount:
    """One connection's share of the counters."""

    __slots__ = ("_book", "_key", "_peer", "_tiers_above", "held")

    def __init__(self, book: BodyBook, peer: str) -> None:
        self._book = book
        self._peer = peer
        self._key = ""
        self._tiers_above = 0
        self.held = 0
        """Bytes of this connection's bodies that are in memory."""

    def charge_to(self, key: str, tiers_above: int = 0) -> None:
        """Count this connection's bytes for `key` from now on, those already held included."""
        self._tiers_above = tiers_above
        if key != self._key:
            self._book.give(self._key, self._peer, self.held)
            self._key = key
            # Bytes already accepted stay, even if they exceed the new key's limit for a moment.
            self._book.give(key, self._peer, -self.held)

    def take(self, size: int) -> None:
        """Count `size` more bytes. Raises `HttpError` if they would exceed a limit."""
        scope = self._book.take(self._key, self._peer, size, self._tiers_above)
        if scope is not None:
            refusal = _REFUSALS[scope]()
            raise refusal
        self.held += size

    def give(self, size: int) -> None:
        self._book.give(self._key, self._peer, size)
        self.held -= size


def _too_many_of(whose: str) -> HttpError:
    return HttpError(
        429,
        "too_many_body_bytes",
        f"The request bodies of this {whose} that are being read reach its limit. Send fewer or smaller requests at "
        "the same time.",
        kind="rate_limit_error",
        should_retry=True,
    )


_REFUSALS = {
    "key": lambda: _too_many_of("key"),
    "peer": lambda: _too_many_of("address"),
    "total": lambda: HttpError(
        503,
        "body_memory_full",
        "The server's memory for request bodies is full. Try again in a moment.",
        kind="server_error",
        should_retry=True,
    ),
}
