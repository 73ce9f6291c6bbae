"""The HTTP/1.1 and WebSocket server: connections, parsing, limits, writing. See ADR 3."""
