"""Small bounds, so that tests reach them."""

from gateway.http.bounds.limits import ServerLimits

LIMITS = ServerLimits(
    max_connections=6,
    max_connections_per_peer=4,
    max_connections_per_key=3,
    probe_connections=2,
    tier_connections=1,
    body_memory_bytes=100,
    body_memory_per_key_bytes=60,
    body_memory_per_peer_bytes=70,
    header_timeout_s=10.0,
    body_timeout_s=60.0,
    min_body_bytes_per_s=1000,
)
