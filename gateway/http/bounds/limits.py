"""The server's limits, from the table `[server]`."""

import math
from typing import Self

import msgspec

from config.model.settings import ServerSettings

_KEY_SHARE = 0.9
_TIER_SHARE = 0.05


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the server. A client that exceeds one gets an answer that says so (docs/configuration.md)."""

    max_body_bytes: int = 4 * 2**20
    body_memory_bytes: int = 256 * 2**20
    """Bodies that are being read, in total."""
    body_memory_per_key_bytes: int = 128 * 2**20
    body_memory_per_peer_bytes: int = 128 * 2**20
    max_connections: int = 1000
    max_connections_per_key: int = 900
    """Working connections of one key."""
    max_connections_per_peer: int = 1000
    probe_connections: int = 16
    """Additional connections that may wait, for health probes."""
    tier_connections: int = 50
    """Places that each tier leaves to the tiers above it; of the memory for bodies it leaves the same share."""
    max_headers: int = 100
    max_head_bytes: int = 32 * 1024
    """Request line and headers together."""
    header_timeout_s: float = 10.0
    """Time for a request's head, from its first byte."""
    body_timeout_s: float = 60.0
    """Time for a request's body, from the end of its head, and for one WebSocket message."""
    min_body_bytes_per_s: int = 4096
    keep_alive_s: float = 75.0
    heartbeat_s: float = 10.0
    write_stall_s: float = 20.0
    max_streams: int = 64
    """Concurrent requests on one WebSocket."""
    messages_per_s: int = 1000
    """Requests, WebSocket frames and tiny packets of one connection; above that it is read more slowly."""
    trusted_proxies: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: ServerSettings) -> Self:
        max_connections = settings.max_connections
        return cls(
            max_body_bytes=settings.max_body,
            body_memory_bytes=settings.body_memory,
            body_memory_per_key_bytes=settings.body_memory_per_key,
            body_memory_per_peer_bytes=settings.body_memory_per_peer,
            max_connections=max_connections,
            max_connections_per_key=settings.connections_per_key or math.ceil(max_connections * _KEY_SHARE),
            max_connections_per_peer=settings.connections_per_peer or max_connections + settings.probe_connections,
            probe_connections=settings.probe_connections,
            tier_connections=int(max_connections * _TIER_SHARE)
            if settings.tier_connections is None
            else settings.tier_connections,
            max_headers=settings.max_headers,
            max_head_bytes=settings.max_head,
            header_timeout_s=settings.header_timeout,
            body_timeout_s=settings.body_timeout,
            min_body_bytes_per_s=settings.body_rate,
            keep_alive_s=settings.keep_alive,
            heartbeat_s=settings.heartbeat,
            write_stall_s=settings.write_stall,
            max_streams=settings.streams_per_socket,
            messages_per_s=settings.messages_per_second,
            trusted_proxies=settings.trusted_proxies,
        )

    def connections_for_tiers_above(self, tiers: int) -> int:
        """Places that a tier with so many above it leaves to them: at most half of all."""
        return min(tiers * self.tier_connections, self.max_connections // 2) if tiers else 0

    def body_memory_for_tiers_above(self, tiers: int) -> int:
        """The same in bytes of bodies."""
        return self.body_memory_bytes * self.connections_for_tiers_above(tiers) // max(self.max_connections, 1)

    @property
    def tick_s(self) -> float:
        """Interval of the ticker, short enough for the shortest timeout."""
        shortest = min(self.header_timeout_s, self.body_timeout_s, self.keep_alive_s, self.heartbeat_s)
        return min(max(shortest / 8, 0.01), 1.0)
