"""HTTP connections that are reused only if no unread bytes remain from the previous response.

A server that sends more than announced (a Content-Length that is too small, a second response) leaves bytes behind,
which httpcore would read as the response to the next request, possibly of another client.
"""

import ssl

import httpcore
import httpx


def transport_of(context: ssl.SSLContext, limits: httpx.Limits) -> httpx.AsyncBaseTransport:
    """An httpx transport over a `CleanPool`."""
    transport = httpx.AsyncHTTPTransport(verify=context, trust_env=False)
    transport._pool = CleanPool(  # noqa: SLF001  (httpx takes no pool)
        ssl_context=context,
        max_connections=limits.max_connections,
        max_keepalive_connections=limits.max_keepalive_connections,
        keepalive_expiry=limits.keepalive_expiry,
    )
    return transport


class CleanPool(httpcore.AsyncConnectionPool):
    """A connection pool that discards connections with unread bytes."""

    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        """A new connection."""
        connection = super().create_connection(origin)
        assert isinstance(connection, httpcore.AsyncHTTPConnection), "no proxy is configured"
        return _CleanConnection(connection)


class _CleanConnection(httpcore.AsyncConnectionInterface):
    def __init__(self, connection: httpcore.AsyncHTTPConnection) -> None:
        self._inner = connection

    def has_expired(self) -> bool:
        return self._inner.has_expired() or (self._inner.is_idle() and self._has_leftover())

    def _has_leftover(self) -> bool:
        http11 = self._inner._connection  # noqa: SLF001  (neither library shows it)
        return isinstance(http11, httpcore.AsyncHTTP11Connection) and bool(http11._h11_state.trailing_data[0])  # noqa: SLF001

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def info(self) -> str:
        return self._inner.info()

    def can_handle_request(self, origin: httpcore.Origin) -> bool:
        return self._inner.can_handle_request(origin)

    def is_available(self) -> bool:
        return self._inner.is_available()

    def is_idle(self) -> bool:
        return self._inner.is_idle()

    def is_closed(self) -> bool:
        return self._inner.is_closed()
