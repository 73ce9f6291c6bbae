"""Requests that two servers may understand differently, each with a real socket. RFC 9112, 6 and 11.2; RFC 6455, 4.1.

A second request hides behind each head, where a server that reads the body otherwise would find it: it must never be
answered, and the connection must end.
"""

import pytest

from tests.gateway.fakes import FakeService
from tests.gateway.harness import UPGRADE, gateway

HIDDEN = b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n"
POST = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\n"
OLD = b"POST /v1/completions HTTP/1.0\r\n"
CHUNKS = b"0\r\n\r\n"
SHAKE = b"GET /v1/stream HTTP/1.1\r\nHost: t\r\n" + UPGRADE.encode()

BAD = [
    # Codings.
    (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 501),
    (POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 501),
    (POST + b"Transfer-Encoding: GZip , Chunked\r\n\r\n" + CHUNKS, 501),
    (POST + b"Transfer-Encoding: deflate;q=1, chunked\r\n\r\n" + CHUNKS, 501),
    (POST + b"Transfer-Encoding: identity, chunked\r\n\r\n" + CHUNKS, 501),
    (POST + b"Transfer-Encoding: ,chunked\r\n\r\n" + CHUNKS, 501),
    (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
    (POST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + CHUNKS, 400),
    (POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNKS, 400),
    (POST + b"Transfer-Encoding:\r\n\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS, 400),
    (OLD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400),
    (OLD + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400),
    (OLD + b"Connection: keep-alive\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 400),
    (b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 501),
    # Lengths.
    (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKS, 400),
    (POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n", 400),
    (POST + b"Content-Length: 0, 0\r\n\r\n", 400),
    (POST + b"Content-Length: +0\r\n\r\n", 400),
    (POST + b"Content-Length: -0\r\n\r\n", 400),
    (POST + b"Content-Length: 0x0\r\n\r\n", 400),
    (POST + b"Content-Length: 0 0\r\n\r\n", 400),
    (POST + b"Content-Length: 1_0\r\n\r\n", 400),
    (POST + b"Content-Length:\r\n\r\n", 400),
    (POST + b"Content-Length : 0\r\n\r\n", 400),
    (POST + b"Content-Length: \xb2\r\n\r\n", 400),
    (POST + b"Content-Length: 18446744073709551616\r\n\r\n", 400),
    # Lines.
    (POST + b"A: b\r\n Content-Length: 0\r\n\r\n", 400),
    (POST + b"A: b\r\n\tc\r\n\r\n", 400),
    (POST + b"A: b\nContent-Length: 0\r\n\r\n", 400),
    (POST + b"A: b\rContent-Length: 0\r\n\r\n", 400),
    (POST + b"A: b\x00c\r\n\r\n", 400),
    (POST + b": b\r\n\r\n", 400),
    (POST + b"A\r\n\r\n", 400),
    (POST.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n", 400),
    (POST.replace(b"Host", b" Host") + b"\r\n", 400),
    # Chunks.
    (POST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n" + CHUNKS, 400),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\naXX" + CHUNKS, 400),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\na\r\n" + CHUNKS, 400),
    # Who and what.
    (POST + b"Host: u\r\nContent-Length: 0\r\n\r\n", 400),
    (b"POST /v1/completions HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400),
    (POST + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\nContent-Length: 0\r\n\r\n", 400),
    (b"GET /livez\r\n\r\n", 505),
    (b"GET /livez HTTP/1.2\r\nHost: t\r\n\r\n", 400),
    (b"GET /livez HTTP/2.0\r\nHost: t\r\n\r\n", 505),
    # Handshakes have no body: it would be read as frames, or as a request.
    (SHAKE + b"Content-Length: %d\r\n\r\n" % len(HIDDEN), 400),
    (SHAKE + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400),
    (SHAKE + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 501),
    (SHAKE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", 400),
]


@pytest.mark.parametrize(("start", "status"), BAD)
async def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_ends(start: bytes, status: int) -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        await client.send(start + HIDDEN)
        response = await client.response()
        assert response.status == status
        assert response.headers["connection"] == "close"
        assert response.error["message"]
        await client.stream.send_eof()
        assert await client.ended() == b""


@pytest.mark.parametrize(
    "start",
    [
        POST + b"Content-Length: 3 \r\n\r\n{} ",
        POST + b"Content-Length: 003\r\n\r\n{} ",
        POST + b"Transfer-Encoding: Chunked\r\n\r\n3\r\n{} \r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked \r\n\r\n3;a=b\r\n{} \r\n0\r\nA: b\r\n\r\n",
        POST + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n{} ",
        POST + b"Content-Encoding: identity\r\nContent-Length: 3\r\n\r\n{} ",
        b"\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\n{} ",
        b"GET /livez HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%b" % (len(HIDDEN), HIDDEN),
        b"OPTIONS /v1/models HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%b" % (len(HIDDEN), HIDDEN),
    ],
)
async def test_what_has_one_meaning_is_answered_once_and_the_connection_serves_on(start: bytes) -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        await client.send(start + b"GET /readyz HTTP/1.1\r\nHost: t\r\n\r\n")
        first = await client.response()
        assert first.status != 501
        assert "connection" not in first.headers
        assert b'"engines"' in (await client.response()).body
        assert client.buffer == b""


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "GZIP", "gzip, identity", "x"])
async def test_compressed_bodies_are_refused(encoding: str) -> None:
    async with gateway(FakeService()) as running:
        response = await (await running.connect()).request(
            "/v1/completions", b"\x1f\x8b", headers=f"Content-Encoding: {encoding}\r\n"
        )
        assert (response.status, response.error["code"]) == (415, "content_encoding_not_supported")


async def test_a_trailer_is_no_header() -> None:
    service = FakeService()
    async with gateway(service) as running:
        client = await running.connect()
        body = b'{"model": "m", "prompt": "x"}'
        trailers = b"Authorization: Bearer late\r\nX-Penstock-Tags: late\r\nHost: late\r\nX-Late: late\r\n"
        await client.send(
            POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers)
        )
        assert (await client.response()).status == 200
    (request,) = service.requests
    assert (request.credentials.api_key, request.credentials.tags) == (None, ())
    assert not [value for _, value in request.credentials.headers if b"late" in value]
