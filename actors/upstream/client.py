"""One call over HTTP: sends the request, feeds the response stream to its reader, and reports how it ended.

Addresses come from the settings only: redirects are not followed, proxies of the environment are ignored, certificates
are verified against the system's trust store. Cancelling a call closes its connection at once.
"""

import contextlib
import http
import math
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

import msgspec
import trio

from actors.kernel.clock import WallClock, loop_clock, system_time
from actors.protocol.delivery import TextDelta
from actors.upstream.failures.failure import Failure, UpstreamCallError, garbled, of_status
from actors.upstream.failures.redaction import Redactor
from actors.upstream.failures.retry_after import requested_pause_s
from actors.upstream.http.address import address
from actors.upstream.http.errors import ConnectError, HttpCallError
from actors.upstream.http.pool import Call, Connect, ConnectionPool
from actors.upstream.http.read_watcher import ReadWatcher
from actors.upstream.http.stream import connect
from actors.upstream.reading.decompress import unpacker
from actors.upstream.reading.response_reader import ResponseReader
from actors.upstream.request_body import UpstreamRequestBody
from actors.upstream.secret import Secret
from policies.fallback.verdict import NO_UPSTREAM_ERROR

_MAX_ERROR_BYTES = 16_384
_ERROR_S = 2.0
"""Time limit for reading the body of an error response."""
_IDLE_S = 4.0
"""Keep-alive time of idle connections. Below 5 s, after which uvicorn, the usual server of these APIs, closes its own:
a call sent on a closing connection is lost."""
_LINGER_S = 0.25
"""After [DONE], time to wait for the end of the body; later the connection is closed instead of reused."""
TAIL_S = 5.0
"""After the finish reason, time to wait for usage and the end: some servers send neither and keep the connection open.
"""
_NO_ANSWERS = ("image/", "audio/", "video/", "multipart/", "application/xml", "text/xml")
"""Other content types are read: servers label event streams and JSON as plain text, HTML (Flask), or not at all."""


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
        network: Connect | None = None,
        wall: WallClock = system_time,
    ) -> None:
        """`keep`: maximum number of idle connections. `network`: opens connections instead of TCP."""
        self._wall = wall
        given = {
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": "penstock",
        }
        if key is not None:
            bearer = key_header.lower() == "authorization"
            given[key_header.lower()] = f"Bearer {key.reveal()}" if bearer else key.reveal()
        given |= {name.lower(): value for name, value in headers.items()}
        self._lines = _lines({"accept": "text/event-stream"} | given)
        self._lines_for_whole = _lines({"accept": "application/json"} | given)
        self._headers = headers
        self._key = key
        self._watcher = ReadWatcher()
        self._pool = ConnectionPool(
            network or partial(connect, context=ssl.create_default_context(), watcher=self._watcher),
            keep=keep,
            idle_s=_IDLE_S,
            connect_s=connect_s,
            clock=loop_clock(),
        )

    async def run(self) -> None:
        """Receive, in a task of its own, as long as there are calls."""
        await self._watcher.run()

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()
        self._watcher.close()

    async def call(
        self,
        url: str,
        body: UpstreamRequestBody,
        reader: ResponseReader,
        on_output: Callable[[TextDelta], None],
        *,
        tail_s: float = TAIL_S,
    ) -> Failure | None:
        """None: the answer was complete, and `on_output` received all of it. A failure's texts are redacted.

        `tail_s`: how long to read on after the finish reason.
        """
        failure: Failure | None = None
        headed = False
        try:
            # No time limit for reading: the caller cancels the call at the deadlines of its route.
            lines = self._lines if body.streamed else self._lines_for_whole
            async with Call(self._pool, address(url, body.path), lines, body.body) as call:
                headed = True
                if call.response.status // 100 != 2:
                    failure = await _refusal(call, self._wall())
                else:
                    await _read(call, reader, on_output, tail_s)
                    if reader.done and not call.response.complete:
                        await _drain(call)
        except UpstreamCallError as error:
            failure = error.failure
        except ConnectError as error:
            why = "The upstream cannot be connected to."
            failure = Failure(kind="upstream_unreachable", message=why, reason=str(error), reached=False)
        except HttpCallError as error:
            if headed:
                failure = _lost(reader, on_output)
            else:
                failure = Failure(kind="upstream_error", message=f"The upstream gave no answer: {error}.")
        if failure is None:
            return None
        redactor = Redactor(self._headers, url, key=self._key.reveal() if self._key is not None else "")
        said = failure.upstream_error
        return msgspec.structs.replace(
            failure,
            reason=redactor.clean_text(failure.reason or failure.message),
            upstream_error=said if said == NO_UPSTREAM_ERROR else redactor.clean(said),
        )


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode()


async def _read(call: Call, reader: ResponseReader, on_output: Callable[[TextDelta], None], tail_s: float) -> None:
    """Read the whole answer. Raises UpstreamCallError and HttpCallError."""
    response = call.response
    unpack = unpacker(response.header(b"content-encoding"))
    _check_type(response.header(b"content-type"))

    def take(data: bytes) -> bool:
        for piece in unpack(data):
            output = reader.feed(piece)
            if output is not None:
                on_output(output)
            if reader.error is not None:
                raise reader.error
            if reader.done:
                return False
        return reader.ending is None

    broken = False
    try:
        await call.read_each(take)
        if not (reader.done or response.complete):
            broken = not await _read_tail(call, reader, take, tail_s)
    except UpstreamCallError:
        # Of what followed the answer's end, nothing matters but its usage.
        if not reader.has_ended or reader.done:
            raise
        broken = True
    if reader.done:
        return
    output = reader.lost() if broken else reader.end()
    if output is not None:
        on_output(output)


async def _read_tail(call: Call, reader: ResponseReader, take: Callable[[bytes], bool], tail_s: float) -> bool:
    """Read what follows a finish reason, its usage for instance, for at most `tail_s`. False: that was too short.

    Text, which means that the answer had not ended, sets the time anew; keep-alives do not.
    """
    until, tokens = math.inf, -1
    while not (reader.done or call.response.complete):
        if reader.ending is None:
            until = math.inf
        elif until == math.inf or reader.tokens != tokens:
            until, tokens = trio.current_time() + tail_s, reader.tokens
        with trio.CancelScope(deadline=until) as patience:
            take(await call.read())
        if patience.cancelled_caught:
            return False
    return True


async def _drain(call: Call) -> None:
    """After the answer's end, wait a little for the body's: then the connection can be used again."""
    with trio.move_on_after(_LINGER_S), contextlib.suppress(HttpCallError):
        while await call.read():
            pass


def _lost(reader: ResponseReader, on_output: Callable[[TextDelta], None]) -> Failure | None:
    try:
        output = reader.lost()
    except UpstreamCallError as error:
        return error.failure
    if output is not None:
        on_output(output)
    return None


async def _refusal(call: Call, at: float) -> Failure:
    response = call.response
    headers = response.headers
    body = await _error_body(call)
    return of_status(
        response.status,
        body,
        pause_s=requested_pause_s(headers, at, limits=response.status == http.HTTPStatus.TOO_MANY_REQUESTS),
        retryable=headers.get("x-should-retry", "").strip().lower() != "false",
    )


@lru_cache(maxsize=256)
def _check_type(given: str | None) -> None:
    """Raises UpstreamCallError."""
    kind = (given or "").partition(";")[0].strip().lower()
    if kind.startswith(_NO_ANSWERS):
        raise garbled(f"it is {kind[:64]}, not an event stream")


async def _error_body(call: Call) -> bytes:
    """The beginning of an error response's body, as far as it arrives within the time limit."""
    body = b""
    with trio.move_on_after(_ERROR_S), contextlib.suppress(UpstreamCallError, HttpCallError):
        unpack = unpacker(call.response.header(b"content-encoding"))
        while len(body) < _MAX_ERROR_BYTES and (data := await call.read()):
            for piece in unpack(data):
                body += piece
                if len(body) >= _MAX_ERROR_BYTES:
                    break
    return body[:_MAX_ERROR_BYTES]
