"""The HTTP/1.1 and WebSocket server: connections, parsing, routes, writing. See ADR 3."""
