"""The HTTP/1.1 and WebSocket server of the hot path: why it is our own is told in docs/adr/0003-hot-path-server.md.

One task a connection. The parts without IO (`request`, `head`) know nothing of sockets; `connection` drives them.
"""
