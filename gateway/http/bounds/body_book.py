"""Who has how many bytes of request bodies in memory. Pure: numbers in, a refusal out."""

from typing import Literal

from gateway.errors import HttpError
from gateway.http.bounds.limits import ServerLimits

Scope = Literal["key", "peer", "total"]


class BodyBook:
    """Counts for each key, for each peer, and for all together."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._keys: dict[str, int] = {}
        self._peers: dict[str, int] = {}
        self.total = 0

    def take(self, key: str, peer: str, size: int) -> Scope | None:
        """Count `size` more bytes, or say whose bound they would break and count nothing.

        An empty name has no bound of its own.
        """
        limits = self._limits
        if key and self._keys.get(key, 0) + size > limits.body_memory_per_key_bytes:
            return "key"
        if peer and self._peers.get(peer, 0) + size > limits.body_memory_per_peer_bytes:
            return "peer"
        if self.total + size > limits.body_memory_bytes:
            return "total"
        self._add(key, peer, size)
        return None

    def give(self, key: str, peer: str, size: int) -> None:
        """`size` bytes that were taken are freed."""
        self._add(key, peer, -size)

    def check_integrity(self) -> None:
        """Nothing negative, nothing kept at zero, no more in the parts than in the whole."""
        for part in (self._keys, self._peers):
            assert all(size > 0 for size in part.values())
            assert sum(part.values()) <= self.total

    def _add(self, key: str, peer: str, size: int) -> None:
        self.total += size
        for name, part in ((key, self._keys), (peer, self._peers)):
            if name:
                part[name] = part.get(name, 0) + size
                if not part[name]:
                    del part[name]


class BodyAccount:
    """One connection's part of the book."""

    __slots__ = ("_book", "_key", "_peer", "held")

    def __init__(self, book: BodyBook, peer: str) -> None:
        self._book = book
        self._peer = peer
        self._key = ""
        self.held = 0
        """Bytes of bodies that came on this connection and are still in memory."""

    def charge_to(self, key: str) -> None:
        """From now on bytes count as this key's. Those that are held go over to it."""
        if key != self._key:
            self._book.give(self._key, self._peer, self.held)
            self._key = key
            # What was let in stays in, even if it stands above the other key's bound for a moment.
            self._book.give(key, self._peer, -self.held)

    def take(self, size: int) -> None:
        """Raises `HttpError` if there is no room for so many bytes more."""
        scope = self._book.take(self._key, self._peer, size)
        if scope is not None:
            refusal = _REFUSALS[scope]()
            raise refusal
        self.held += size

    def give(self, size: int) -> None:
        """So many bytes are freed."""
        self._book.give(self._key, self._peer, size)
        self.held -= size


def _too_many_of(whose: str) -> HttpError:
    return HttpError(
        429,
        "too_many_body_bytes",
        f"Bodies of other requests of this {whose} are being read, and there is no room for one more. Send fewer or "
        "smaller requests at the same time.",
        kind="rate_limit_error",
        should_retry=True,
    )


_REFUSALS = {
    "key": lambda: _too_many_of("key"),
    "peer": lambda: _too_many_of("address"),
    "total": lambda: HttpError(
        503,
        "body_memory_full",
        "The server has no room for the request's body: it is reading many others.",
        kind="server_error",
        should_retry=True,
    ),
}
