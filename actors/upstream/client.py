"""One call over HTTP: sends the question, feeds the stream to its reader, and says truthfully how it ended.

Addresses come from the settings alone: no redirect is followed, no proxy is taken from the environment, certificates
are checked against the system's store. Cancelling a call closes its connection at once.
"""

import contextlib
import http
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping

import httpx
import msgspec
import trio

from actors.protocol.outputs import TextDelta
from actors.upstream.connections import transport_of
from actors.upstream.failures.failure import Broken, Failure, garbled, of_status
from actors.upstream.failures.redaction import Redactor
from actors.upstream.failures.retry_after import asked_pause_s
from actors.upstream.reading.decompress import Decompressor, unpacker
from actors.upstream.reading.response_reader import ResponseReader
from actors.upstream.request_body import UpstreamRequestBody
from actors.upstream.secret import Secret
from policies.fallback.verdict import NOTHING_SAID

MakeTransport = Callable[[], httpx.AsyncBaseTransport]
_MOST_OF_AN_ERROR = 16_384
_ERROR_S = 2.0
"""For reading the body of an error."""
_IDLE_S = 4.0
"""An idle connection is kept so long: uvicorn, under most of these servers, closes its own after 5 s, and a call that
meets the close is lost."""
_LINGER_S = 0.25
"""After [DONE] the connection's end of the answer is awaited so long; then it is closed and not used again."""
_TAIL_S = 5.0
"""After the finish reason usage and the end are awaited so long: some servers say neither, and keep the connection."""
_NEVER = float("inf")
_NO_ANSWERS = ("image/", "audio/", "video/", "multipart/", "application/xml", "text/xml")
"""Other types are looked at: servers call event streams and JSON plain text, HTML (Flask), or nothing at all."""


class UpstreamClient:
    """All connections to one upstream. Made and closed by its actor."""

    def __init__(
        self,
        *,
        key: Secret | None,
        key_header: str = "authorization",
        headers: Mapping[str, str],
        connect_s: float,
        keep: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`keep`: idle connections at the most. `transport`: a test's own network."""
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
            # How long an answer may take is the reader's business: it has the deadlines of its route.
            timeout=httpx.Timeout(None, connect=connect_s, write=connect_s),
            follow_redirects=False,
            trust_env=False,
            transport=transport or transport_of(ssl.create_default_context(), limits),
        )

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._http.aclose()

    async def ask(
        self, url: str, question: UpstreamRequestBody, reader: ResponseReader, on_output: Callable[[TextDelta], None]
    ) -> Failure | None:
        """None: the answer was whole, and `on_output` had all of it. A failure's words hold nothing of ours."""
        failure = await self._ask(url, question, reader, on_output)
        if failure is None or failure.said == NOTHING_SAID:
            return failure
        return msgspec.structs.replace(failure, said=Redactor(self._secrets, url).clean(failure.said))

    async def _ask(
        self, url: str, question: UpstreamRequestBody, reader: ResponseReader, on_output: Callable[[TextDelta], None]
    ) -> Failure | None:
        headed = False
        try:
            async with self._http.stream("POST", address(url, question.path), content=question.body) as response:
                headed = True
                if not response.is_success:
                    return await _refusal(response)
                unpack = unpacker(response.headers.get("content-encoding"))
                _check_type(response.headers.get("content-type"))
                stream = response.aiter_raw()
                try:
                    await _read(stream, unpack, reader, on_output)
                finally:
                    await _leave(stream, _LINGER_S if reader.done else 0.0)
        except Broken as broken:
            return broken.failure
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
    """All of the answer. Raises Broken, and httpx's errors."""
    patience = trio.CancelScope()
    with patience:
        async for data in stream:
            for piece in unpack(data):
                output = reader.feed(piece)
                if output is not None:
                    on_output(output)
                if reader.broken is not None:
                    raise reader.broken
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
    except Broken as broken:
        return broken.failure
    if output is not None:
        on_output(output)
    return None


def address(url: str, path: str) -> httpx.URL:
    """Where under an upstream's address the path is; a query of the address stays."""
    base = httpx.URL(url)
    return base.copy_with(path=base.path.rstrip("/") + path)


async def _refusal(response: httpx.Response) -> Failure:
    headers = response.headers
    body = await _error_body(response)
    return of_status(
        response.status_code,
        body,
        pause_s=asked_pause_s(headers, time.time(), limits=response.status_code == http.HTTPStatus.TOO_MANY_REQUESTS),
        retryable=headers.get("x-should-retry", "").strip().lower() != "false",
    )


def _check_type(given: str | None) -> None:
    kind = (given or "").partition(";")[0].strip().lower()
    if kind.startswith(_NO_ANSWERS):
        raise garbled(f"it is {kind[:64]}, and no event stream")


async def _error_body(response: httpx.Response) -> bytes:
    """The beginning of it, if it comes soon."""
    body = b""
    stream = response.aiter_raw()
    with trio.move_on_after(_ERROR_S), contextlib.suppress(Broken):
        unpack = unpacker(response.headers.get("content-encoding"))
        async for data in stream:
            for piece in unpack(data):
                body += piece
                if len(body) >= _MOST_OF_AN_ERROR:
                    break
            if len(body) >= _MOST_OF_AN_ERROR:
                break
    await _leave(stream, 0.0)
    return body[:_MOST_OF_AN_ERROR]


async def _leave(stream: AsyncIterator[bytes], after_s: float) -> None:
    """Read no more than what comes within this time.

    httpx reads through a chain of generators, and whoever stops to iterate closes the outermost one alone: the others
    would be left to the garbage collector. A cancelled read unwinds all of them from within.
    """
    with trio.move_on_after(after_s):
        async for _ in stream:
            pass
