"""Failures of a call over HTTP.

HttpCallError
├── ConnectError       no connection: nothing was sent
└── ConnectionLostError      closed, reset, or not in time, before the response was complete
    └── InvalidResponseError     not HTTP/1.1
"""


class HttpCallError(Exception):
    """A call failed; the message says how."""


class ConnectError(HttpCallError):
    """No connection, including TLS: nothing was sent."""


class ConnectionLostError(HttpCallError):
    """The connection ended before the response was complete."""


class InvalidResponseError(ConnectionLostError):
    """What arrived is not an HTTP/1.1 response; `body`: what arrived before, of its body."""

    def __init__(self, message: str, body: bytes = b"") -> None:
        super().__init__(message)
        self.body = body
