"""Every address of both listeners before every kind of key: one table, over the whole app."""

from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from engine.model.vectors import EmbeddingSizes
from gateway.endpoints.admin_routes import create_admin_app
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.info_routes import create_info_app
from policies.admission.keys import NewKey, new_key
from tests.actors.fakes import says
from tests.gateway.endpoints.test_admin_routes import admin
from tests.gateway.endpoints.test_refusal_log import SETTINGS as BASE
from tests.gateway.harness import Client, connected, gateway

PAST, FUTURE = "2001-01-01T00:00:00Z", "2999-12-31T23:59:59+01:00"


def made(number: int, name: str) -> NewKey:
    return new_key("", bytes([number]) * 38, name)


# By the columns of the table below: the list of the key, and what it says beside id and hash.
KEYS = {
    "app": ("keys", f'tenant = "acme"\nexpires = {FUTURE}'),
    "other": ("keys", 'tenant = "other"'),
    "expired": ("keys", f'tenant = "acme"\nexpires = {PAST}'),
    "embeds": ("keys", 'tenant = "acme"\nendpoints = ["embeddings"]'),
    "mini": ("keys", 'tenant = "acme"\nmodels = ["min*"]'),
    "read": ("admin.keys", f'roles = ["read"]\nexpires = {FUTURE}'),
    "operate": ("admin.keys", 'roles = ["operate"]'),
    "adapters": ("admin.keys", 'roles = ["adapters"]'),
    "keeper": ("admin.keys", 'roles = ["keys"]'),
    "old-admin": ("admin.keys", f"expires = {PAST}"),
    "scraper": ("metrics.keys", ""),
    "old-scraper": ("metrics.keys", f"expires = {PAST}"),
}
MADE = {name: made(number, name) for number, name in enumerate(KEYS, 1)}
TABLES = "".join(
    f'[[{table}]]\nid = "{name}"\nhash = "{MADE[name].settings.hash}"\n{more}\n' for name, (table, more) in KEYS.items()
)
SETTINGS = BASE.replace('id = "app"', 'id = "base"').replace(
    "[prices]", f'[tenants.other]\n[admin]\nkeys_file = "keys.toml"\n{TABLES}[prices]', 1
)
RAW = {"none": None, "wrong": "penstock_app_wrong", **{name: key.raw for name, key in MADE.items()}}

CHAT = {"model": "small", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}
TEXT = {"model": "small", "max_tokens": 8, "prompt": "Hi"}
RESPOND = {"model": "small", "max_output_tokens": 8, "input": "Hi"}
TEXT_ONLY = {"model": "small", "prompt": "Hi"}
TOKENS = {"model": "small", "tokens": [5]}
RERANK = {"model": "mini", "query": "Hi", "documents": ["Hi", "a"]}
SCORE = {"model": "mini", "text_1": "Hi", "text_2": "a"}
BATCH = {"input_file_id": "file-0", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
EMBED = {"model": "mini", "input": ["Hi"]}
DECIDE = {"model": "small", "input": "Hi", "decision": {"type": "predicate", "question": "Is it?"}}
OPEN = "200 " * 14


class Row(NamedTuple):
    listener: str
    method: str
    rule: str
    """As the app's own table has it; a path if there is a name in it."""
    expected: str
    """Status by key, in the order of `COLUMNS`."""
    body: object = None
    path: str = ""


COLUMNS = ["none", "wrong", "expired", *(name for name in KEYS if name != "expired")]
ROWS = [
    #                                            none wrg exp app oth emb min rea ope ada kee old scr old
    Row("api", "GET", "/livez", OPEN),
    Row("api", "GET", "/readyz", OPEN),
    Row("api", "GET", "/health", OPEN),
    Row("api", "GET", "/ping", OPEN),
    Row("api", "POST", "/ping", OPEN),
    Row("api", "GET", "/version", OPEN),
    Row("api", "GET", "/", OPEN),
    Row("api", "GET", "/console/<path:name>", OPEN, path="/console/main.js"),
    Row("api", "GET", "/openapi.json", OPEN),
    Row("api", "GET", "/docs", OPEN),
    Row("api", "GET", "/v1/models",              "401 401 401 200 200 200 200 401 401 401 401 401 401 401"),
    Row("api", "GET", "/v1/models/<path:name>",  "401 401 401 200 200 200 404 401 401 401 401 401 401 401",
        path="/v1/models/small"),
    Row("api", "GET", "/metrics",                "401 401 401 403 403 403 403 200 403 403 403 401 200 401"),
    Row("api", "POST", "/v1/chat/completions",   "401 401 401 200 200 403 403 401 401 401 401 401 401 401", CHAT),
    Row("api", "POST", "/v1/completions",        "401 401 401 200 200 403 403 401 401 401 401 401 401 401", TEXT),
    Row("api", "POST", "/v1/messages",           "401 401 401 200 200 403 403 401 401 401 401 401 401 401", CHAT),
    Row("api", "POST", "/v1/messages/count_tokens",
        "401 401 401 200 200 403 403 401 401 401 401 401 401 401", CHAT),
    Row("api", "POST", "/v1/embeddings",         "401 401 401 200 200 200 200 401 401 401 401 401 401 401", EMBED),
    Row("api", "POST", "/v1/responses",          "401 401 401 200 200 403 403 401 401 401 401 401 401 401", RESPOND),
    Row("api", "GET", "/v1/responses",           "401 401 401 426 426 403 426 401 401 401 401 401 401 401"),
    Row("api", "GET", "/v1/responses/",          "401 401 401 200 404 403 200 401 401 401 401 401 401 401"),
    Row("api", "POST", "/v1/responses/",         "401 401 401 400 404 403 400 401 401 401 401 401 401 401", b""),
    Row("api", "DELETE", "/v1/responses/",       "401 401 401 404 404 403 404 401 401 401 401 401 401 401",
        path="/v1/responses/resp_0"),
    Row("api", "POST", "/v1/responses/input_tokens", "401 401 401 200 200 403 403 401 401 401 401 401 401 401",
        {"model": "small", "input": "Hi"}),
    Row("api", "POST", "/v1/conversations",      "401 401 401 200 200 403 200 401 401 401 401 401 401 401", {}),
    Row("api", "GET", "/v1/conversations/",      "401 401 401 404 404 403 404 401 401 401 401 401 401 401",
        path="/v1/conversations/conv_0"),
    Row("api", "DELETE", "/v1/conversations/",   "401 401 401 404 404 403 404 401 401 401 401 401 401 401",
        path="/v1/conversations/conv_0"),
    Row("api", "GET", "/v1/files",               "401 401 401 200 200 403 200 401 401 401 401 401 401 401"),
    Row("api", "POST", "/v1/files",              "401 401 401 415 415 403 415 401 401 401 401 401 401 401", {}),
    Row("api", "GET", "/v1/files/",              "401 401 401 404 404 403 404 401 401 401 401 401 401 401",
        path="/v1/files/file-0"),
    Row("api", "DELETE", "/v1/files/",           "401 401 401 404 404 403 404 401 401 401 401 401 401 401",
        path="/v1/files/file-0"),
    Row("api", "GET", "/v1/batches",             "401 401 401 200 200 403 200 401 401 401 401 401 401 401"),
    Row("api", "POST", "/v1/batches",            "401 401 401 404 404 403 404 401 401 401 401 401 401 401", BATCH),
    Row("api", "GET", "/v1/batches/",            "401 401 401 404 404 403 404 401 401 401 401 401 401 401",
        path="/v1/batches/batch_0"),
    Row("api", "POST", "/v1/batches/",           "401 401 401 404 404 403 404 401 401 401 401 401 401 401",
        {}, "/v1/batches/batch_0/cancel"),
    Row("api", "POST", "/tokenize",              "401 401 401 200 200 403 403 401 401 401 401 401 401 401", TEXT_ONLY),
    Row("api", "POST", "/v1/tokenize",           "401 401 401 200 200 403 403 401 401 401 401 401 401 401", TEXT_ONLY),
    Row("api", "POST", "/detokenize",            "401 401 401 200 200 403 403 401 401 401 401 401 401 401", TOKENS),
    Row("api", "POST", "/v1/detokenize",         "401 401 401 200 200 403 403 401 401 401 401 401 401 401", TOKENS),
    Row("api", "POST", "/rerank",                "401 401 401 200 200 403 200 401 401 401 401 401 401 401", RERANK),
    Row("api", "POST", "/v1/rerank",             "401 401 401 200 200 403 200 401 401 401 401 401 401 401", RERANK),
    Row("api", "POST", "/v2/rerank",             "401 401 401 200 200 403 200 401 401 401 401 401 401 401", RERANK),
    Row("api", "POST", "/score",                 "401 401 401 200 200 403 200 401 401 401 401 401 401 401", SCORE),
    Row("api", "POST", "/v1/score",              "401 401 401 200 200 403 200 401 401 401 401 401 401 401", SCORE),
    Row("api", "POST", "/classify",              "401 401 401 400 400 403 400 401 401 401 401 401 401 401", EMBED),
    Row("api", "POST", "/v1/moderations",        "401 401 401 404 404 403 404 401 401 401 401 401 401 401",
        {"input": "Hi"}),
    Row("api", "POST", "/v1/decisions",          "401 401 401 200 200 403 403 401 401 401 401 401 401 401", DECIDE),
    Row("api", "GET", "/v1/stream",              "401 401 401 426 426 426 426 401 401 401 401 401 401 401"),
    Row("api", "GET", "/v1/streams/",            "401 401 401 200 404 403 403 401 401 401 401 401 401 401"),
    Row("admin", "GET", "/metrics",              "401 401 401 401 401 401 401 200 403 403 403 401 200 401"),
    Row("admin", "GET", "/admin/policy",         "401 401 401 401 401 401 401 200 403 403 403 401 401 401"),
    Row("admin", "GET", "/admin/keys",           "401 401 401 401 401 401 401 200 403 403 403 401 401 401"),
    Row("admin", "POST", "/admin/keys",
        "401 401 401 401 401 401 401 403 403 403 201 401 401 401", {"tenant": "acme", "id": "made"}),
    Row("admin", "POST", "/admin/keys/<key_id>/rotate",
        "401 401 401 401 401 401 401 403 403 403 200 401 401 401", b"", "/admin/keys/made/rotate"),
    Row("admin", "DELETE", "/admin/keys/<key_id>",
        "401 401 401 401 401 401 401 403 403 403 200 401 401 401", path="/admin/keys/made"),
    Row("admin", "GET", "/admin/breakers",       "401 401 401 401 401 401 401 200 403 403 403 401 401 401"),
    Row("admin", "POST", "/admin/breakers/<rung>",
        "401 401 401 401 401 401 401 403 404 403 403 401 401 401", {"force": "none"}, "/admin/breakers/x"),
    Row("admin", "GET", "/admin/experiments",    "401 401 401 401 401 401 401 200 403 403 403 401 401 401"),
    Row("admin", "GET", "/admin/shadows",        "401 401 401 401 401 401 401 200 403 403 403 401 401 401"),
    Row("admin", "GET", "/admin/decisions/<request_id>", "401 401 401 401 401 401 401 404 403 403 403 401 401 401",
        path="/admin/decisions/x"),
    Row("admin", "GET", "/admin/engines/<engine>/adapters", "401 401 401 401 401 401 401 200 403 403 403 401 401 401",
        path="/admin/engines/small/adapters"),
    Row("admin", "POST", "/admin/policy/check",
        "401 401 401 401 401 401 401 200 403 403 403 401 401 401", b"schema = 1"),
    Row("admin", "POST", "/admin/policy/reload", "401 401 401 401 401 401 401 403 200 403 403 401 401 401", b""),
    Row("admin", "POST", "/admin/experiments/<path:name>/roll_back",
        "401 401 401 401 401 401 401 403 404 403 403 401 401 401", b"", "/admin/experiments/x/roll_back"),
    Row("admin", "POST", "/admin/engines/<engine>/adapters/<name>",
        "401 401 401 401 401 401 401 403 403 400 403 401 401 401", b"", "/admin/engines/small/adapters/x"),
    Row("admin", "DELETE", "/admin/engines/<engine>/adapters/<name>",
        "401 401 401 401 401 401 401 403 403 404 403 401 401 401", path="/admin/engines/small/adapters/x"),
]  # fmt: skip
CODES = {
    401: {"invalid_api_key", "api_key_expired"},
    403: {"metrics_key_needed", "endpoint_not_allowed", "model_not_allowed", "role_needed"},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "service.toml"
    path.write_text(SETTINGS)
    return path


@pytest.mark.parametrize(
    ("name", "header"),
    [*((name, "Authorization: Bearer") for name in COLUMNS), ("app", "x-api-key:"), ("mini", "x-api-key:")],
)
async def test_every_address(file: Path, name: str, header: str) -> None:
    scripts = {"small": says("okay then", prompt=2)}
    async with (
        admin(file, scripts=scripts, encoders={"mini": EmbeddingSizes(8)}, clean=False) as (service, admins),
        gateway(service.service) as clients,
    ):
        keeper = await clients.connect()
        headers = f"authorization: Bearer {MADE['app'].raw}\r\nx-penstock-resumable: true\r\n"
        kept = await keeper.request("/v1/chat/completions", {**CHAT, "stream": True}, headers=headers)
        app = f"authorization: Bearer {MADE['app'].raw}\r\n"
        made = await (await clients.connect()).request("/v1/responses", RESPOND, headers=app)
        found = {}
        for row in ROWS:
            client = await (clients if row.listener == "api" else admins).connect()
            path = row.path or row.rule
            if path == "/v1/streams/":
                path += kept.headers["x-penstock-stream"]
            if path == "/v1/responses/":
                path += made.json["id"] + ("/cancel" if row.method == "POST" else "")
            raw = RAW[name]
            authorization = "" if raw is None else f"{header} {raw}\r\n"
            answer = await ask(client, row, path, authorization)
            found[row.listener, row.method, row.rule] = answer.status
            if answer.status in CODES and answer.headers["content-type"] == "application/json":
                assert answer.error["code"] in CODES[answer.status], (row, answer.body)
                if answer.status == 401 and row.listener == "api" and path != "/metrics":
                    assert (answer.error["code"] == "api_key_expired") == (name == "expired")
        column = COLUMNS.index(name)
        assert found == {(row.listener, row.method, row.rule): int(row.expected.split()[column]) for row in ROWS}


async def ask(client: Client, row: Row, path: str, headers: str):
    if row.method == "POST":
        return await client.request(path, row.body if row.body is not None else b"", headers=headers)
    await client.send(f"{row.method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
    return await client.response()


async def test_no_address_is_missing(file: Path) -> None:
    async with admin(file) as (service, _):
        api = ApiContext(service=service.service, max_choices=1, max_inputs=1)
        apps = {"api": create_info_app(api, lambda: 0), "admin": create_admin_app(service.service.admin, lambda: b"")}
        rules = {
            (listener, method, rule.rule)
            for listener, app in apps.items()
            for rule in app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }
    assert rules <= {(row.listener, row.method, row.rule) for row in ROWS}


@pytest.mark.parametrize(("name", "code"), [("embeds", "endpoint_not_allowed"), ("mini", "model_not_allowed")])
async def test_each_message_of_a_socket_is_checked(file: Path, name: str, code: str) -> None:
    async with admin(file) as (service, _), gateway(service.service) as clients:
        headers = [(b"authorization", b"Bearer " + MADE[name].raw.encode())]
        async with connected(clients, headers) as socket:
            await socket.send({"type": "start", "id": "a", **CHAT})
            error = (await socket.until("error"))[-1]
            assert error["error"]["code"] == code
        owner = [(b"authorization", b"Bearer " + MADE["app"].raw.encode())]
        async with connected(clients, owner) as its_own, connected(clients, headers) as socket:
            await its_own.send({"type": "start", "id": "a", "resumable": True, **CHAT})
            stream = (await its_own.get())["stream"]
            await socket.send({"type": "resume", "id": "a", "stream": stream})
            assert (await socket.get())["error"]["code"] == code


@pytest.mark.parametrize("name", ["expired", "embeds"])
async def test_the_body_of_a_refused_request_is_not_waited_for(file: Path, name: str) -> None:
    async with admin(file) as (service, _), gateway(service.service) as clients:
        client = await clients.connect()
        head = f"Host: t\r\nContent-Type: application/json\r\nAuthorization: Bearer {MADE[name].raw}\r\n"
        await client.send(f"POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Length: 4000\r\n\r\n".encode())
        answer = await client.response()
        assert answer.error["code"] == ("api_key_expired" if name == "expired" else "endpoint_not_allowed")


async def test_a_key_expires_while_the_server_runs(tmp_path: Path) -> None:
    now = [1_000_000.0]
    path = tmp_path / "service.toml"
    path.write_text(SETTINGS.replace(FUTURE, "1970-01-12T13:46:50Z"))
    async with admin(path, wall=lambda: now[0]) as (service, admins), gateway(service.service) as clients:
        for passed, status in ((0.0, 200), (9.9, 200), (10.0, 401), (-5.0, 200)):
            now[0] = 1_000_000.0 + passed
            for listener, address, name in ((clients, "/v1/models", "app"), (admins, "/admin/keys", "read")):
                answer = await (await listener.connect()).get(
                    address, headers=f"Authorization: Bearer {MADE[name].raw}\r\n"
                )
                assert answer.status == status, (passed, name)
                if status == 401:
                    assert answer.error["code"] == "api_key_expired"


async def test_a_key_sees_the_models_that_it_may_ask_for(file: Path) -> None:
    async with admin(file) as (service, _), gateway(service.service) as clients:
        seen = {}
        for name in ("app", "mini"):
            answer = await (await clients.connect()).get(
                "/v1/models", headers=f"Authorization: Bearer {MADE[name].raw}\r\n"
            )
            seen[name] = [card["id"] for card in answer.json["data"]]
        assert seen["mini"] == ["mini"]
        assert {"small", "mini"} < set(seen["app"])


async def test_operators_see_the_state_of_all_keys(file: Path) -> None:
    async with admin(file) as (_, admins):
        client = await admins.connect()
        shown = await client.get("/admin/keys", headers=f"Authorization: Bearer {MADE['read'].raw}\r\n")
        states = {(key["id"], key["kind"]): key["state"] for key in shown.json["keys"]}
        assert {name: states[name, kind_of(name)] for name in KEYS} == {
            name: "expired" if name in {"expired", "old-admin", "old-scraper"} else "valid" for name in KEYS
        }
        assert not any(key.settings.hash in msgspec.json.encode(shown.json).decode() for key in MADE.values())


def kind_of(name: str) -> str:
    return {"keys": "tenant", "admin.keys": "admin", "metrics.keys": "metrics"}[KEYS[name][0]]
