"""The upstream client on real sockets: what only the real transport can get wrong."""

import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from actors.protocol.delivery import TextDelta
from actors.upstream.client import UpstreamClient
from actors.upstream.failures.failure import Failure
from actors.upstream.reading.response_reader import ResponseReader
from actors.upstream.request_body import UpstreamRequestBody
from actors.upstream.secret import Secret
from tests.patience import PATIENCE_S

QUESTION = UpstreamRequestBody("/chat/completions", b"{}")
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
SAID = b'data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
Serve = Callable[[trio.SocketStream], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Its address."""

    async def handle(plain: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            stream: Any = plain if tls is None else trio.SSLStream(plain, tls, server_side=True)
            while not (await stream.receive_some(65536)).endswith(b"{}"):
                pass
            await serve(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"http{'' if tls is None else 's'}://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        nursery.cancel_scope.cancel()


def unheard(_: TextDelta) -> None:
    pass


async def ask(
    url: str, on_output: Callable[[TextDelta], None] = unheard, *, connect_s: float = 2 * PATIENCE_S
) -> Failure | None:
    client = UpstreamClient(key=Secret("sk-x"), headers={}, connect_s=connect_s, keep=4)
    try:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                failure = await client.call(url, QUESTION, ResponseReader(1, 100), on_output)
                nursery.cancel_scope.cancel()
            return failure
    finally:
        client.close()


async def whole(stream: trio.SocketStream) -> None:
    await stream.send_all(HEAD + SAID + END)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_not_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    heard: list[TextDelta] = []
    async with server(whole) as url:
        assert await ask(url, heard.append) is None
    assert "".join(each.text for each in heard) == "hello"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    visited = trio.Event()

    async def elsewhere(stream: trio.SocketStream) -> None:
        visited.set()
        await whole(stream)

    async with server(elsewhere) as target:

        async def redirect(stream: trio.SocketStream) -> None:
            head = f"HTTP/1.1 {status} Moved\r\nlocation: {target}/chat/completions\r\ncontent-length: 0\r\n\r\n"
            await stream.send_all(head.encode())

        async with server(redirect) as url:
            failure = await ask(url)
    assert failure is not None
    assert failure.kind == "upstream_misconfigured"
    assert not visited.is_set()


async def test_a_cancelled_call_closes_its_socket_at_once() -> None:
    closed = trio.Event()

    async def talks_on(stream: trio.SocketStream) -> None:
        await stream.send_all(HEAD + SAID)
        assert await stream.receive_some(1) == b""
        closed.set()

    heard = trio.Event()
    async with server(talks_on) as url, trio.open_nursery() as nursery:
        nursery.start_soon(ask, url, lambda _: heard.set())
        with trio.fail_after(PATIENCE_S):
            await heard.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(PATIENCE_S):
            await closed.wait()


async def test_a_reset_after_content() -> None:
    async def reset(stream: trio.SocketStream) -> None:
        await stream.send_all(HEAD.replace(b"\r\n\r\n", b"\r\ncontent-length: 9999\r\n\r\n") + SAID)
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        stream.socket.close()

    async with server(reset) as url:
        failure = await ask(url)
    assert failure is not None
    assert failure.kind == "upstream_truncated"


async def test_a_server_without_tls_where_tls_is_asked_for() -> None:
    async with server(whole) as url:
        failure = await ask(url.replace("http:", "https:"), connect_s=0.1)
    assert failure is not None
    assert (failure.kind, failure.reached) == ("upstream_unreachable", False)


@pytest.mark.parametrize(
    ("host", "known", "reached"),
    [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("other.example", True, False)],
)
async def test_certificates_are_checked(
    host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, known: bool, reached: bool
) -> None:
    authority = trustme.CA()
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    if known:
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    heard: list[TextDelta] = []
    async with server(whole, context) as url:
        failure = await ask(url, heard.append)
    assert "".join(each.text for each in heard) == ("hello" if reached else "")
    if reached:
        assert failure is None
    else:
        assert failure is not None
        assert (failure.kind, failure.reached) == ("upstream_unreachable", False)


async def test_what_follows_a_response_over_tls_is_nobody_elses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A second response in the same segment, but in a TLS record of its own: it has been received and not returned."""
    authority = trustme.CA()
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    connections = 0

    async def serve(plain: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)

        async def until(step: Callable[[], object]) -> object:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    if outgoing.pending:
                        await plain.send_all(outgoing.read())
                    data = await plain.receive_some(65536)
                    if not data:
                        raise trio.BrokenResourceError from None
                    incoming.write(data)

        with contextlib.suppress(trio.BrokenResourceError, ssl.SSLError):
            await until(tls.do_handshake)
            while True:
                await until(lambda: tls.read(65536))
                for text in (SAID, SAID.replace(b"hello", b"stolen")):
                    tls.write(
                        HEAD.replace(b"\r\n\r\n", b"\r\ncontent-length: %d\r\n\r\n" % len(text + END)) + text + END
                    )
                await plain.send_all(outgoing.read())

    heard: list[TextDelta] = []
    client = UpstreamClient(key=None, headers={}, connect_s=PATIENCE_S, keep=4)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        nursery.start_soon(client.run)
        url = f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        with trio.fail_after(PATIENCE_S):
            for _ in range(3):
                assert await client.call(url, QUESTION, ResponseReader(1, 100), heard.append) is None
        nursery.cancel_scope.cancel()
    client.close()
    assert "".join(each.text for each in heard) == "hello" * 3
    assert connections == 3


async def test_names_that_do_not_resolve() -> None:
    failure = await ask("http://nowhere.invalid/v1", connect_s=0.1)
    assert failure is not None
    assert failure.kind == "upstream_unreachable"
