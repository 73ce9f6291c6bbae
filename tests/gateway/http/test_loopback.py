"""Without keys a page of another site is kept out, and everything on this machine is not."""

import pytest

from tests.gateway.fakes import FakeService
from tests.gateway.harness import Gateway, Response, gateway

OURS = "http://app.test"


async def ask(running: Gateway, *headers: str, path: str = "/v1/chat/completions") -> Response:
    body = b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}'
    client = await running.connect()
    head = "".join([f"{line}\r\n" for line in headers])
    await client.send(f"POST {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return await client.response()


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "LOCALHOST.:1", "[::1]:8080", "127.9.9.9"])
async def test_names_of_this_machine_are_served(host: str) -> None:
    async with gateway(FakeService(keyless=True)) as running:
        assert (await ask(running, f"Host: {host}")).status == 200
        assert (await ask(running, f"Host: {host}", f"Origin: http://{host}")).status == 200


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test", "10.0.0.1:8080", "[::2]", "localhost.evil.test"])
async def test_another_name_is_refused(host: str) -> None:
    async with gateway(FakeService(keyless=True)) as running:
        refused = await ask(running, f"Host: {host}")
        assert (refused.status, refused.error["code"]) == (403, "host_not_allowed")
        assert (await ask(running, f"Host: {host}", path="/metrics")).status == 403


async def test_a_page_of_another_origin_is_refused_unless_it_is_listed() -> None:
    async with gateway(FakeService(keyless=True), ws_origins=(OURS,)) as running:
        for origin in ("http://evil.test", "null", "https://localhost"):
            refused = await ask(running, "Host: localhost", f"Origin: {origin}")
            assert (refused.status, refused.error["code"]) == (403, "origin_not_allowed")
        assert (await ask(running, "Host: localhost", f"Origin: {OURS}")).status == 200


async def test_with_keys_names_do_not_matter() -> None:
    async with gateway(FakeService()) as running:
        assert (await ask(running, "Host: gateway.test", "Origin: http://page.test")).status == 200
