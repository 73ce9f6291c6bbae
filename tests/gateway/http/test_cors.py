"""Pages of listed origins can use every address, and read what it says; pages of others cannot."""

import msgspec
import pytest
import structlog

from actors.api.errors import BadKey, ErrorBody
from actors.api.request import InferenceRequest
from actors.api.response import Delta, Failed
from tests.faults.test_websocket_faults import frame
from tests.gateway.fakes import SERVED, USAGE, FakeService, Step
from tests.gateway.harness import CHAT, STREAM, UPGRADE, Gateway, gateway

OURS, THEIRS = "https://app.example", "https://evil.example"
KEY = "Authorization: Bearer good\r\n"
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/metrics", "/readyz", "/nowhere")


def locked() -> FakeService:
    def check(key: str | None) -> None:
        if key != "good":
            raise BadKey(missing=key is None)

    return FakeService(check_key=check)


async def preflight(running: Gateway, path: str, origin: str, *lines: str) -> tuple[int, dict[str, str]]:
    client = await running.connect()
    head = [f"OPTIONS {path} HTTP/1.1", "Host: localhost", f"Origin: {origin}", *lines, "", ""]
    await client.send("\r\n".join(head).encode())
    response = await client.response()
    return response.status, response.headers


@pytest.mark.parametrize("keyless", [True, False])
@pytest.mark.parametrize("path", PATHS)
async def test_a_preflight_needs_no_key(path: str, keyless: bool) -> None:
    wanted = "authorization,content-type,openai-organization,x-stainless-lang,x-stainless-retry-count,x-penstock-tags"
    lines = ("Access-Control-Request-Method: POST", f"Access-Control-Request-Headers: {wanted}")
    service = FakeService(keyless=True) if keyless else locked()
    async with gateway(service, ws_origins=(OURS,)) as running:
        status, headers = await preflight(running, path, OURS, *lines)
        assert status == 200
        assert headers["access-control-allow-origin"] == OURS
        assert headers["access-control-allow-methods"] == "GET, POST, DELETE"
        assert headers["access-control-allow-headers"].split(", ") == wanted.split(",")
        assert headers["access-control-max-age"] == "600"
        assert headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in headers
        assert "access-control-allow-private-network" not in headers
        status, headers = await preflight(running, path, OURS, lines[0], "Access-Control-Request-Private-Network: true")
        assert headers["access-control-allow-private-network"] == "true"
        assert "authorization" in headers["access-control-allow-headers"]
        # No origin but the listed one, written exactly so.
        for origin in (THEIRS, "null", f"{OURS}.evil.example", OURS.upper(), f"{OURS}:443", "https://app.example/"):
            status, headers = await preflight(running, path, origin, *lines)
            assert status == 403
            assert not [name for name in headers if name.startswith("access-control")]


async def test_a_preflight_names_what_it_was_asked_for_and_nothing_else() -> None:
    async with gateway(locked(), ws_origins=(OURS,)) as running:
        lines = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: a b, ok, x:y,, \xe9")
        _, headers = await preflight(running, "/v1/models", OURS, *lines)
        assert headers["access-control-allow-headers"] == "ok"
        # Not a preflight.
        status, headers = await preflight(running, "/v1/completions", OURS)
        assert (status, headers["allow"]) == (405, "POST")


CASES = {
    "whole": ("/v1/chat/completions", CHAT, KEY, 200),
    "stream": ("/v1/chat/completions", STREAM, KEY, 200),
    "no key": ("/v1/chat/completions", CHAT, "", 401),
    "bad body": ("/v1/chat/completions", b"{", KEY, 400),
    "bad kind": ("/v1/chat/completions", CHAT, KEY + "Content-Encoding: gzip\r\n", 415),
    "too large": ("/v1/chat/completions", b" " * 3000, KEY, 413),
    "method": ("/v1/models", b"", KEY, 405),
    "nowhere": ("/nowhere", b"", KEY, 404),
    "framing": ("/v1/completions", b"", KEY + "Transfer-Encoding: gzip, chunked\r\n", 400),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("origin", [OURS, THEIRS, None])
async def test_every_answer_can_be_read_by_pages_of_listed_origins(case: str, origin: str | None) -> None:
    path, body, headers, status = CASES[case]
    if origin is not None:
        headers += f"Origin: {origin}\r\n"
    async with gateway(locked(), ws_origins=(OURS,), limits={"max_body_bytes": 2000}) as running:
        response = await (await running.connect()).request(path, body, headers=headers)
        assert response.status == status
        if case != "framing":
            assert response.headers["vary"] == "origin"
        if origin == OURS and case != "framing":
            assert response.headers["access-control-allow-origin"] == OURS
            exposed = response.headers["access-control-expose-headers"].split(", ")
            assert {"*", "x-request-id", "retry-after", "x-penstock-policy", "x-penstock-rung"} <= set(exposed)
        else:
            assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/models", "/v1/models/nobody", "/metrics", "/"])
async def test_what_is_got(path: str) -> None:
    async with gateway(locked(), ws_origins=(OURS,)) as running:
        response = await (await running.connect()).get(path, headers=f"{KEY}Origin: {OURS}\r\n")
        assert response.headers["access-control-allow-origin"] == OURS


async def test_refusals_by_time_and_by_load_can_be_read_too() -> None:
    failure = ErrorBody(503, "server_error", "engine_failed", "The engine failed.", should_retry=True)
    service = FakeService(lambda _: [[Failed(failure, USAGE, SERVED)]])
    line = f"Origin: {OURS}\r\n"
    async with gateway(service, ws_origins=(OURS,)) as running:
        response = await (await running.connect()).request("/v1/chat/completions", CHAT, headers=line)
        assert (response.status, response.headers["access-control-allow-origin"]) == (503, OURS)
    async with gateway(service, ws_origins=(OURS,), header_timeout=0.1) as running:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: t\r\n{line}Content-Length: 9\r\n\r\n"
        late = await running.heard(head.encode())
        response = await late.response()
        assert (response.status, response.headers["access-control-allow-origin"]) == (408, OURS)


async def test_without_listed_origins_nothing_is_said() -> None:
    async with gateway(FakeService()) as running:
        response = await (await running.connect()).get("/livez", headers=f"Origin: {OURS}\r\n")
        assert not [name for name in response.headers if name.startswith("access-control") or name == "vary"]


async def test_two_hundred_requests_on_one_connection_with_errors_between() -> None:
    """After an error event the body ends whole: whoever said nothing of closing must not close."""
    failure = ErrorBody(503, "server_error", "engine_failed", "The engine failed.", should_retry=True)

    def script(request: InferenceRequest) -> list[Step]:
        ends: dict[str | None, list[Step]] = {"0": [[Failed(failure, USAGE, SERVED)]], "1": [RuntimeError("crash")]}
        return [[Delta(0, "Hel", (1,))], *ends.get(request.body.user, [])]

    service = FakeService(script)
    # What is logged is made into pages of colour otherwise.
    with structlog.testing.capture_logs():
        await _ask_often(service)


async def _ask_often(service: FakeService) -> None:
    async with gateway(service, messages_per_second=10_000) as running:
        client = await running.connect()
        for number in range(200):
            body = {**(STREAM if number % 2 else CHAT), "user": str(number % 3)}
            response = await client.request("/v1/chat/completions", body)
            assert "connection" not in response.headers
            assert b'"error"' in response.body
            assert (await client.request("/v1/chat/completions", b"{")).status == 400


@pytest.mark.parametrize(
    ("protocols", "key", "status"),
    [
        ("penstock, penstock-key.good", "", 101),
        ("penstock-key.good,penstock", "", 101),
        ("other, penstock, penstock-key.good", "", 101),
        ("penstock, penstock-key.wrong", "", 401),
        ("penstock, penstock-key.", "", 401),
        ("penstock", "", 401),
        ("penstock", KEY, 101),
        # What the header says counts.
        ("penstock, penstock-key.good", KEY.replace("good", "wrong"), 401),
    ],
)
async def test_a_page_brings_its_key_to_a_socket_as_a_subprotocol(protocols: str, key: str, status: int) -> None:
    service = locked()
    async with gateway(service, ws_origins=(OURS,)) as running:
        client = await running.connect()
        lines = f"{UPGRADE}Origin: {OURS}\r\nSec-WebSocket-Protocol: {protocols}\r\n{key}"
        await client.send(f"GET /v1/stream HTTP/1.1\r\nHost: t\r\n{lines}\r\n".encode())
        found, headers = await client.head()
        assert found == status
        if status == 101:
            assert headers["sec-websocket-protocol"] == "penstock"
            await client.send(frame(1, msgspec.json.encode({"type": "start", "id": "a", **CHAT})))
            while b'"done"' not in client.buffer:
                await client.more()
            (request,) = service.requests
            assert request.credentials.api_key == "good"
            assert not [value for _, value in request.credentials.headers if b"good" in value]


async def test_a_subprotocol_is_no_key_elsewhere() -> None:
    async with gateway(locked()) as running:
        line = "Sec-WebSocket-Protocol: penstock, penstock-key.good\r\n"
        assert (await (await running.connect()).request("/v1/completions", CHAT, headers=line)).status == 401
