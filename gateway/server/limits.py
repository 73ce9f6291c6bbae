"""What one connection may cost, and how long it may take."""

from typing import Self

import msgspec

from config.settings import ServerSettings


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the server; every one of them has an answer for the client that meets it."""

    max_body_bytes: int = 4 * 2**20
    max_connections: int = 1000
    max_headers: int = 100
    max_head_bytes: int = 32 * 1024
    """Request line and headers together."""
    header_timeout_s: float = 10.0
    """A request's head must be complete this long after its first byte."""
    min_body_bytes_per_s: int = 4096
    """Each part of a body that arrives buys the sender this much more time, after `header_timeout_s` for a start."""
    keep_alive_s: float = 75.0
    heartbeat_s: float = 10.0
    write_stall_s: float = 20.0
    max_streams: int = 64
    """Requests at once on one WebSocket."""

    @classmethod
    def of(cls, settings: ServerSettings) -> Self:
        """Take what the configuration says about the server."""
        return cls(
            max_body_bytes=settings.max_body,
            max_connections=settings.max_connections,
            header_timeout_s=settings.header_timeout,
            keep_alive_s=settings.keep_alive,
            heartbeat_s=settings.heartbeat,
            write_stall_s=settings.write_stall,
        )

    @property
    def tick_s(self) -> float:
        """How often the ticker looks at each connection: fine enough for the shortest of the durations."""
        return min(max(min(self.header_timeout_s, self.keep_alive_s, self.heartbeat_s) / 8, 0.01), 1.0)
