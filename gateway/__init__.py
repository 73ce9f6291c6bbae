"""The edge: command line, HTTP, SSE, WebSocket, wire formats, telemetry export."""
