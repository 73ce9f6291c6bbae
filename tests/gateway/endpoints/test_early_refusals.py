"""Whatever refuses a request before a handler has it tells the same things: in the log, of the limits, and to pages."""

from typing import Any, NamedTuple

import pytest
import structlog
import trio

from policies.admission.keys import new_key
from tests.actors.fakes import says, stage
from tests.gateway.endpoints.test_refusal_log import KEY, SETTINGS, bearer
from tests.gateway.harness import Client, Gateway, gateway, until

SCRAPER = new_key("metrics", bytes(range(5, 43)), "scraper")
TABLES = SETTINGS.replace(
    "[prices]", f'[[metrics.keys]]\nid = "scraper"\nhash = "{SCRAPER.settings.hash}"\n[prices]', 1
)
ORIGIN = "https://app.example"
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
FORM = "Content-Type: multipart/form-data; boundary=b\r\n"
JSON = "Content-Type: application/json\r\n"
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
PREFLIGHT = "Access-Control-Request-Method: POST\r\n"


class Case(NamedTuple):
    name: str
    method: str
    path: str
    headers: str
    status: int
    code: str
    key: str = KEY.raw
    tenant: str = "acme"
    limits: dict[str, Any] = {}  # noqa: RUF012  (never written)
    body: bytes = b""
    origin: str = ORIGIN


CASES = [
    Case("no key", "POST", CHAT, JSON, 401, "invalid_api_key", key="", tenant=""),
    Case("another class of key", "POST", CHAT, JSON, 401, "invalid_api_key", key=SCRAPER.raw, tenant=""),
    Case("address", "GET", "/v1/nothing", "", 404, "not_found"),
    Case("file of the console", "GET", "/console/nothing.js", "", 404, "not_found", key="", tenant=""),
    Case("address, unknown key", "GET", "/v1/nothing", "", 404, "not_found", key="x", tenant=""),
    Case("address with slashes", "GET", "/livez//", "", 404, "not_found"),
    Case("address with the words of a terminal", "GET", "/v1/%1b[2J", "", 404, "not_found"),
    Case("model with the words of a terminal", "GET", "/v1/models/%1b%5b2J", "", 404, "model_not_found"),
    Case("method", "DELETE", CHAT, "", 405, "method_not_allowed"),
    Case("method of a probe", "POST", "/livez", "", 405, "method_not_allowed"),
    Case("method of the models", "POST", "/v1/models", "", 405, "method_not_allowed"),
    Case("models without a key", "GET", "/v1/models", "", 401, "invalid_api_key", key="", tenant=""),
    Case("no such model", "GET", "/v1/models/none", "", 404, "model_not_found"),
    Case("metrics with a tenant's key", "GET", "/metrics", "", 403, "metrics_key_needed"),
    Case("type", "POST", CHAT, "Content-Type: text/plain\r\n", 415, "unsupported_media_type"),
    Case("compressed", "POST", CHAT, f"{JSON}Content-Encoding: gzip\r\n", 415, "content_encoding_not_supported"),
    Case("compressed in transfer", "POST", CHAT, f"{JSON}Transfer-Encoding: gzip, chunked\r\n", 501,
         "transfer_encoding_not_supported", origin=""),
    Case("method of a file", "POST", "/v1/files/file-0", JSON, 405, "method_not_allowed"),
    Case("no form", "POST", "/v1/files", "Content-Type: multipart/form-data\r\nContent-Length: 1\r\n", 415,
         "unsupported_media_type"),
    Case("a form that is compressed", "POST", "/v1/files", f"{FORM}Content-Encoding: gzip\r\n", 415,
         "content_encoding_not_supported"),
    Case("a file stated too long", "POST", "/v1/files", f"{FORM}Content-Length: 99999999999\r\n", 413,
         "file_too_large"),
    Case("a file that never comes", "POST", "/v1/files", f"{FORM}Content-Length: 99\r\n", 408, "request_timeout",
         limits={"header_timeout_s": 0.05}),
    Case("stated too long", "POST", CHAT, f"{JSON}Content-Length: 99999999\r\n", 413, "body_too_large"),
    Case("chunks too long", "POST", CHAT, f"{JSON}Transfer-Encoding: chunked\r\n", 413, "body_too_large",
         body=b"20000\r\n" + bytes(0x20000)),
    Case("bad chunk", "POST", CHAT, f"{JSON}Transfer-Encoding: chunked\r\n", 400, "bad_request", body=b"x\r\n"),
    Case("body never comes", "POST", CHAT, f"{JSON}Content-Length: 99\r\n", 408, "request_timeout",
         limits={"header_timeout_s": 0.05}),
    Case("no room for a body", "POST", CHAT, f"{JSON}Content-Length: 99\r\n", 503, "body_memory_full",
         limits={"body_memory_bytes": 9}, body=b"x" * 20),
    Case("no room for a key's body", "POST", CHAT, f"{JSON}Content-Length: 99\r\n", 429, "too_many_body_bytes",
         limits={"body_memory_per_key_bytes": 9}, body=b"x" * 20),
    Case("no place for a key", "POST", CHAT, f"{JSON}Content-Length: 99\r\n", 429, "too_many_connections",
         limits={"max_connections_per_key": 0}),
    Case("no place for a socket", "GET", "/v1/stream", UPGRADE, 429, "too_many_connections",
         limits={"max_connections_per_key": 0}),
    Case("no socket", "GET", "/v1/stream", "", 426, "upgrade_required"),
    Case("old socket", "GET", "/v1/stream", UPGRADE.replace("13", "8"), 426, "websocket_version"),
    Case("socket's nonce", "GET", "/v1/stream", UPGRADE.replace("AAA=", "="), 400, "bad_websocket_key"),
    Case("socket with a body", "GET", "/v1/stream", f"{UPGRADE}Content-Length: 2\r\n", 400, "body_not_allowed",
         origin=""),
    Case("socket of another page", "GET", "/v1/stream", UPGRADE, 403, "origin_not_allowed",
         origin="https://other.example"),
    Case("preflight of another page", "OPTIONS", CHAT, PREFLIGHT, 403, "origin_not_allowed",
         origin="https://other.example"),
]  # fmt: skip
CASES += [case._replace(name=f"{case.name}, in messages", path=MESSAGES) for case in CASES if case.path == CHAT]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_each_is_one_line_and_says_what_is_left(case: Case) -> None:
    async def act(running: Gateway) -> Any:
        client = await running.connect()
        key = bearer(case.key) if case.key else ""
        origin = f"Origin: {case.origin}\r\n" if case.origin else ""
        head = f"{case.method} {case.path} HTTP/1.1\r\nHost: localhost\r\n{key}{origin}{case.headers}\r\n"
        await client.send(head.encode() + case.body)
        return await client.response()

    with structlog.testing.capture_logs() as logs:
        async with (
            stage({"small": says("ok"), "large": says("ok")}, settings=TABLES, clean=False) as service,
            gateway(service.service, limits={"max_body_bytes": 65_536, **case.limits}, ws_origins=(ORIGIN,)) as running,
        ):
            answer = await act(running)
    (line,) = [each for each in logs if each["event"] == "request_finished"]
    assert answer.status == case.status
    assert (line["status"], line["code"], line["tenant"]) == (case.status, case.code, case.tenant)
    assert line["path"].isprintable()
    if "%" not in case.path:
        assert line["path"] == case.path
    if not answer.headers["content-type"].startswith("text/html"):
        assert answer.error["code"] == case.code
        assert answer.headers["x-request-id"] == line["request_id"]
        assert (answer.json.get("type") == "error") == (case.path == MESSAGES)
    if case.path == MESSAGES:
        assert answer.json["request_id"] == answer.headers["request-id"] == line["request_id"]
    assert line["request_id"]
    assert ("x-ratelimit-limit-requests" in answer.headers) == bool(case.tenant)
    assert (answer.headers.get("access-control-allow-origin") == ORIGIN) == (case.origin == ORIGIN)


async def test_a_connection_that_finds_no_place_is_one_line() -> None:
    with structlog.testing.capture_logs() as logs:
        async with (
            stage({"small": says("ok"), "large": says("ok")}, settings=TABLES, clean=False) as service,
            gateway(service.service, limits={"max_connections": 1, "probe_connections": 0}) as running,
        ):
            working: Client = await running.connect()
            head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{bearer(KEY.raw)}{JSON}Content-Length: 9\r\n\r\n"
            await working.send(head.encode())
            await until(lambda: running.server.statistics().working == 1)
            refused: Client = await running.connect()
            answer = await refused.response()
            assert await refused.ended() == b""
            await trio.lowlevel.checkpoint()
    (line,) = [each for each in logs if each["event"] == "request_finished"]
    assert (answer.status, line["status"], line["code"]) == (503, 503, "too_many_connections")
