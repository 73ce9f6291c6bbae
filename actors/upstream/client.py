"""One call over HTTP: sends the request, feeds the response stream to its reader, and reports how it ended.

Addresses come from the settings only: redirects are not followed, proxies of the environment are ignored, certificates
are verified against the system's trust store. Cancelling a call closes its connection at once.

A connection is reused only if no unread bytes remain from the previous response: a server that sends more than
announced (a Content-Length that is too small, a second response) leaves bytes which httpcore would read as the response
to the next request, possibly of another client.
"""

import contextlib
import http
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

import httpcore
import httpx
import msgspec
import trio

from actors.kernel.clock import WallClock, system_time
from actors.protocol.delivery import TextDelta
from actors.upstream.failures.failure import Failure, UpstreamCallError, garbled, of_status
from actors.upstream.failures.redaction import Redactor
from actors.upstream.failures.retry_after import requested_pause_s
from actors.upstream.reading.decompress import Decompressor, unpacker
from actors.upstream.reading.response_reader import ResponseReader
from actors.upstream.request_body import UpstreamRequestBody
from actors.upstream.secret import Secret
from policies.fallback.verdict import NO_UPSTREAM_ERROR

MakeTransport = Callable[[], httpx.AsyncBaseTransport]
_MAX_ERROR_BYTES = 16_384
_ERROR_S = 2.0
"""Time limit for reading the body of an error response."""
_IDLE_S = 4.0
"""Keep-alive time of idle connections. Below 5 s, after which uvicorn, the usual server of these APIs, closes its own:
a call sent on a closing connection is lost."""
_LINGER_S = 0.25
"""After [DONE], time to wait for the end of the body; later the connection is closed instead of reused."""
_TAIL_S = 5.0
"""After the finish reason, time to wait for usage and the end: some servers send neither and keep the connection open.
"""
_NEVER = float("inf")
_NO_ANSWERS = ("image/", "audio/", "video/", "multipart/", "application/xml", "text/xml")
"""Other content types are read: servers label event streams and JSON as plain text, HTML (Flask), or not at all."""


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


class UpstreamClient:
    """All connections to one upstream. Created and closed by its actor."""

    def __init__(
        self,
        *,
        key: Secret | None,
        key_header: str = "authorization",
        headers: Mapping[str, str],
        connect_s: float,
        keep: int,
        transport: httpx.AsyncBaseTransport | None = None,
        wall: WallClock = system_time,
    ) -> None:
        """`keep`: maximum number of idle connections. `transport`: replaces the network in tests."""
        self._wall = wall
        given = {
            "accept": "text/event-stream",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": "penstock",
        }
        if key is not None:
            bearer = key_header.lower() == "authorization"
            given[key_header.lower()] = f"Bearer {key.reveal()}" if bearer else key.reveal()
        given |= {name.lower(): value for name, value in headers.items()}
        self._secrets = (*headers.values(), *([key.reveal()] if key is not None else []))
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=keep, keepalive_expiry=_IDLE_S)
        self._http = httpx.AsyncClient(
            headers=given,
            # No read timeout: the caller cancels the call at the deadlines of its route.
            timeout=httpx.Timeout(None, connect=connect_s, write=connect_s),
            follow_redirects=False,
            trust_env=False,
            transport=transport or transport_of(ssl.create_default_context(), limits),
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def call(
        self, url: str, body: UpstreamRequestBody, reader: ResponseReader, on_output: Callable[[TextDelta], None]
    ) -> Failure | None:
        """None: the answer was complete, and `on_output` received all of it. A failure's text is redacted."""
        failure = await self._call(url, body, reader, on_output)
        if failure is None or failure.upstream_error == NO_UPSTREAM_ERROR:
            return failure
        return msgspec.structs.replace(
            failure, upstream_error=Redactor(self._secrets, url).clean(failure.upstream_error)
        )

    async def _call(
        self, url: str, body: UpstreamRequestBody, reader: ResponseReader, on_output: Callable[[TextDelta], None]
    ) -> Failure | None:
        headed = False
        try:
            async with self._http.stream("POST", address(url, body.path), content=body.body) as response:
                headed = True
                if not response.is_success:
                    return await _refusal(response, self._wall())
                unpack = unpacker(response.headers.get("content-encoding"))
                _check_type(response.headers.get("content-type"))
                stream = response.aiter_raw()
                try:
                    await _read(stream, unpack, reader, on_output)
                finally:
                    await _leave(stream, _LINGER_S if reader.done else 0.0)
        except UpstreamCallError as error:
            return error.failure
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return Failure(kind="upstream_unreachable", message="The upstream cannot be connected to.", reached=False)
        except (httpx.HTTPError, httpx.StreamError) as error:
            if not headed:
                return Failure(kind="upstream_error", message=f"The upstream gave no answer ({type(error).__name__}).")
            return _lost(reader, on_output)
        return None


async def _read(
    stream: AsyncIterator[bytes], unpack: Decompressor, reader: ResponseReader, on_output: Callable[[TextDelta], None]
) -> None:
    """Read the whole answer. Raises UpstreamCallError, and httpx's errors."""
    patience = trio.CancelScope()
    with patience:
        async for data in stream:
            for piece in unpack(data):
                output = reader.feed(piece)
                if output is not None:
                    on_output(output)
                if reader.error is not None:
                    raise reader.error
                if reader.done:
                    return
            if reader.has_ended:
                patience.deadline = trio.current_time() + _TAIL_S
            elif patience.deadline != _NEVER:
                patience.deadline = _NEVER
    output = reader.lost() if patience.cancelled_caught else reader.end()
    if output is not None:
        on_output(output)


def _lost(reader: ResponseReader, on_output: Callable[[TextDelta], None]) -> Failure | None:
    try:
        output = reader.lost()
    except UpstreamCallError as error:
        return error.failure
    if output is not None:
        on_output(output)
    return None


def address(url: str, path: str) -> httpx.URL:
    """The URL of `path` under an upstream's address, whose query is kept."""
    base = httpx.URL(url)
    return base.copy_with(path=base.path.rstrip("/") + path)


async def _refusal(response: httpx.Response, at: float) -> Failure:
    headers = response.headers
    body = await _error_body(response)
    return of_status(
        response.status_code,
        body,
        pause_s=requested_pause_s(headers, at, limits=response.status_code == http.HTTPStatus.TOO_MANY_REQUESTS),
        retryable=headers.get("x-should-retry", "").strip().lower() != "false",
    )


def _check_type(given: str | None) -> None:
    kind = (given or "").partition(";")[0].strip().lower()
    if kind.startswith(_NO_ANSWERS):
        raise garbled(f"it is {kind[:64]}, and no event stream")


async def _error_body(response: httpx.Response) -> bytes:
    """The beginning of an error response's body, as far as it arrives within the time limit."""
    body = b""
    stream = response.aiter_raw()
    with trio.move_on_after(_ERROR_S), contextlib.suppress(UpstreamCallError):
        unpack = unpacker(response.headers.get("content-encoding"))
        async for data in stream:
            for piece in unpack(data):
                body += piece
                if len(body) >= _MAX_ERROR_BYTES:
                    break
            if len(body) >= _MAX_ERROR_BYTES:
                break
    await _leave(stream, 0.0)
    return body[:_MAX_ERROR_BYTES]


async def _leave(stream: AsyncIterator[bytes], after_s: float) -> None:
    """Drain the stream for at most `after_s` seconds, then close it.

    httpx reads through a chain of generators, and closing the outermost one leaves the others to the garbage collector.
    Cancelling a read unwinds all of them.
    """
    with trio.move_on_after(after_s):
        async for _ in stream:
            pass
