"""`/openapi.json` and `/docs` over a real socket."""

import json

import pytest

from actors.api.errors import BadKey
from gateway.endpoints.api_description import rendered_document, rendered_page
from gateway.endpoints.operations.all_operations import described
from gateway.openapi.page import page_policy
from tests.gateway.fakes import FakeService
from tests.gateway.harness import Client, gateway


def refuse(key: str | None) -> None:
    raise BadKey(missing=key is None)


async def asked(client: Client, path: str, etag: str) -> int:
    return (await client.get(path, headers=f"If-None-Match: {etag}\r\n")).status


async def test_the_document_is_read_without_a_key() -> None:
    async with gateway(FakeService(check_key=refuse)) as running:
        answer = await (await running.connect()).get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == json.loads(json.dumps(described(keyless=False)))
    assert answer.headers["cache-control"] == "no-cache"


async def test_a_server_without_keys_says_so() -> None:
    async with gateway(FakeService(keyless=True)) as running:
        client = await running.connect()
        assert {} in (await client.get("/openapi.json")).json["security"]
        assert b"This server needs no key" in (await client.get("/docs")).body


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_what_a_client_has_is_not_sent_again(path: str) -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        whole = await client.get(path)
        etag = whole.headers["etag"]
        again = await client.get(path, headers=f"If-None-Match: {etag}\r\n")
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
        assert "content-length" not in again.headers
        assert [await asked(client, path, each) for each in (f'"x", W/{etag}', "*", '"x"')] == [304, 304, 200]
        await client.send(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status, headers = await client.head()
        assert (status, int(headers["content-length"])) == (200, len(whole.body))


async def test_the_page_may_run_its_own_script_only() -> None:
    async with gateway(FakeService()) as running:
        answer = await (await running.connect()).get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == page_policy()
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_both_are_made_once() -> None:
    assert rendered_document(keyless=False) is rendered_document(keyless=False)
    assert rendered_page(keyless=False) is rendered_page(keyless=False)
    assert rendered_document(keyless=False).etag != rendered_document(keyless=True).etag
