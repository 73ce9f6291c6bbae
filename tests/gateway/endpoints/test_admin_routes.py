"""The admin API, with a real service behind it, on its own listener."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from config.source import ConfigSource
from gateway.endpoints.admin_routes import AdminRoutes
from gateway.http.bounds.limits import ServerLimits
from gateway.http.server import Server, listen
from gateway.telemetry.metrics import exposition
from policies.admission.keys import ADMIN_PREFIX, METRICS_PREFIX, NewKey, new_key
from tests.actors.fakes import CONFIG, Stage, says, stage
from tests.gateway.harness import Gateway, gateway

KEY = new_key("", bytes(range(38)), "ops", prefix=ADMIN_PREFIX)
SCRAPER = new_key("", bytes(range(2, 40)), "ops", prefix=METRICS_PREFIX)
"""Of the same id as the admin's: ids are of their list."""
CLIENT = new_key("acme", bytes(range(1, 39)), "app")
KEYS = f"""
[[admin.keys]]
id = "ops"
hash = "{KEY.settings.hash}"
[[metrics.keys]]
id = "ops"
hash = "{SCRAPER.settings.hash}"
[[keys]]
id = "app"
tenant = "acme"
hash = "{CLIENT.settings.hash}"
[tenants.acme]
budget = {{ amount = 1_000.0 }}
[prices]
small = {{ input = 1, output = 1 }}
"""
EXPERIMENT = """
[[experiments]]
name = "try / it"
route = ["small"]
unit = "request"
arms = { control = 50, b = 50 }
override = { b = { "routes.small.midstream" = "continue" } }
guard = { metrics = ["error_rate"] }
"""
BEARER = f"Authorization: Bearer {KEY.raw}\r\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "service.toml"
    path.write_text(CONFIG)
    return path


def write(file: Path, text: str) -> None:
    file.write_text(text)


@asynccontextmanager
async def admin(file: Path, *, scripts: object = None, **options: object) -> AsyncIterator[tuple[Stage, Gateway]]:
    said = {"small": says("ok")} if scripts is None else scripts
    async with stage(said, source=ConfigSource(file), step_s=0.001, **options) as service:
        server = Server(
            listen("127.0.0.1", 0),
            ServerLimits(),
            AdminRoutes(service.service.admin, partial(exposition, service.service, int)),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            reached = Gateway(server, server.port)
            try:
                yield service, reached
            finally:
                reached.close_clients()
            await server.finish(0)


async def test_the_policy_is_shown_checked_and_reloaded(file: Path) -> None:
    async with admin(file) as (service, api):
        client = await api.connect()
        shown = (await client.get("/admin/policy")).json
        assert (shown["policy"], shown["files"], shown["last_refusal"]) == (service.service.policy, [str(file)], [])
        other = CONFIG.replace("retries = 1", "retries = 2")
        checked = await client.request("/admin/policy/check", other.encode())
        assert checked.json == {"good": True, "problems": [], "changed": ["ladders.small-first"], "needs_restart": []}
        rebuilt = CONFIG.replace("max_running = 4", "max_running = 5", 1)
        restart = await client.request("/admin/policy/check", rebuilt.encode())
        assert (restart.json["good"], restart.json["needs_restart"]) == (False, ["engines.small"])
        bad = await client.request("/admin/policy/check", CONFIG.replace("retries", "retrys").encode())
        assert bad.json["problems"][0]["suggestion"] == "retries"
        assert service.service.policy == shown["policy"]
        write(file, CONFIG.replace("retries", "retrys"))
        refused = await client.request("/admin/policy/reload", b"")
        assert (refused.status, refused.json["type"], refused.json["policy"]) == (422, "refused", shown["policy"])
        assert (await client.get("/admin/policy")).json["last_refusal"] == refused.json["problems"] != []
        write(file, other)
        swapped = await client.request("/admin/policy/reload", b"")
        assert (swapped.status, swapped.json["type"]) == (200, "swapped")
        assert swapped.json["policy"] == service.service.policy != shown["policy"]
        again = await client.request("/admin/policy/reload", b"")
        assert again.json == {"type": "unchanged", "policy": service.service.policy}
        assert (await client.get("/admin/policy")).json["reloads"] == {"swapped": 1, "unchanged": 1, "refused": 1}


async def test_a_decision_is_found_by_its_id(file: Path) -> None:
    async with admin(file) as (service, api):
        await service.ask("small")
        client = await api.connect()
        found = await client.get("/admin/decisions/r1")
        assert (found.json["outcome"], found.json["plan"]["route"]) == ("ok", "small")
        missing = await client.get("/admin/decisions/r2")
        assert (missing.status, missing.error["code"]) == (404, "decision_not_found")


async def test_an_experiment_is_shown_and_rolled_back(file: Path) -> None:
    write(file, CONFIG + EXPERIMENT)
    async with admin(file) as (service, api):
        client = await api.connect()
        await service.ask("small")
        (shown,) = (await client.get("/admin/experiments")).json["experiments"]
        assert (shown["name"], shown["rolled_back"]) == ("try / it", False)
        assert shown["percent"] == {"control": 50.0, "b": 50.0}
        assert sum(arm["requests"] for arm in shown["arms"].values()) == 1
        assert (await client.request("/admin/experiments/nothing/roll_back", b"")).error[
            "code"
        ] == "experiment_not_found"
        done = await client.request("/admin/experiments/try%20%2F%20it/roll_back", b"")
        assert done.json == {"experiment": "try / it", "rolled_back": True}
        (after,) = (await client.get("/admin/experiments")).json["experiments"]
        assert (after["rolled_back"], after["why"]) == (True, "rolled back by an operator")


async def test_a_breaker_is_shown_and_forced(file: Path) -> None:
    async with admin(file) as (service, api):
        client = await api.connect()
        shown = (await client.get("/admin/breakers")).json["breakers"]
        assert (shown["small"]["state"], shown["small"]["forced"]) == ("closed", "none")
        held = await client.request("/admin/breakers/small", b'{"force": "open", "for_s": 600}')
        assert (held.status, held.json["rung"], held.json["state"], held.json["forced"]) == (
            200,
            "small",
            "open",
            "open",
        )
        assert 590 < held.json["forced_for_s"] <= 600
        passed_by = await service.ask("small")
        assert [(each.rung, each.why) for each in passed_by.end.served.attempts] == [
            ("small", "breaker_open"),
            ("large", "breaker_open"),
        ]
        freed = await client.request("/admin/breakers/small", b'{"force": "none"}')
        assert (freed.json["state"], freed.json["forced"]) == ("closed", "none")
        assert (await service.ask("small")).end.served.rung == "small"
        closed = (await client.request("/admin/breakers/small", b'{"force": "closed"}')).json
        assert (closed["state"], closed["forced"]) == ("closed", "closed")
        for body in (b"", b'{"force": "ajar"}', b'{"force": "open", "for_s": 86401}', b'{"force": "open", "for_s": 0}'):
            bad = await client.request("/admin/breakers/small", body)
            assert (bad.status, bad.error["code"]) == (400, "bad_json")
            assert "at most 86400 s" in bad.error["message"]
        missing = await client.request("/admin/breakers/nothing", b'{"force": "open"}')
        assert (missing.status, missing.error["code"]) == (404, "rung_not_found")


async def test_only_keys_of_its_own_class_open_it(file: Path) -> None:
    write(file, CONFIG + KEYS)
    async with admin(file) as (service, api):
        client = await api.connect()
        for header, status in (("", 401), (f"Authorization: Bearer {CLIENT.raw}\r\n", 401), (BEARER, 200)):
            assert (await client.get("/admin/policy", headers=header)).status == status
            assert (await client.get("/admin/nothing", headers=header)).status == (404 if status == 200 else 401)
        # And it opens nothing else.
        assert (await service.ask("small", api_key=KEY.raw)).refusal.body.status == 401
        assert (await service.ask("small", api_key=CLIENT.raw)).text() == "ok"


async def test_no_byte_of_a_body_is_read_without_a_key(file: Path) -> None:
    write(file, CONFIG + KEYS)
    async with admin(file) as (_, running):
        for path in ("/admin/policy/check", "/admin/policy/reload", "/admin/engines/small/adapters/x"):
            for key in ("", f"Authorization: Bearer {CLIENT.raw}\r\n"):
                client = await running.connect()
                await client.send(f"POST {path} HTTP/1.1\r\nHost: t\r\n{key}Content-Length: 4000000\r\n\r\n".encode())
                assert (await client.response()).status == 401


async def test_without_keys_pages_of_other_sites_are_kept_out(file: Path) -> None:
    async with admin(file) as (_, api):
        client = await api.connect()
        await client.send(b"GET /admin/policy HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert (await client.response()).status == 403
        other = await api.connect()
        refused = await other.get("/admin/policy", headers="Origin: https://evil.example\r\n")
        assert (refused.status, refused.error["code"]) == (403, "origin_not_allowed")
        assert "penstock keys new --admin" in refused.error["message"]
        assert "ws_origins" not in refused.error["message"]


async def test_what_is_no_toml_and_no_address(file: Path) -> None:
    async with admin(file) as (_, api):
        client = await api.connect()
        assert (await client.request("/admin/policy/check", b"\xff\xfe")).error["code"] == "bad_encoding"
        assert (await client.get("/v1/models")).status == 404
        wrong = await client.get("/admin/policy/reload")
        assert (wrong.status, wrong.headers["allow"]) == (405, "OPTIONS, POST")
        assert msgspec.json.decode((await client.request("/admin/policy/check", b"= no")).body)["good"] is False


def bearer(key: NewKey | str | None) -> str:
    return "" if key is None else f"Authorization: Bearer {key if isinstance(key, str) else key.raw}\r\n"


KEY_CASES = [
    # key, on the clients' listener, on the admin's
    (None, (401, "invalid_api_key"), (401, "invalid_api_key")),
    ("penstock_app_wrong", (401, "invalid_api_key"), (401, "invalid_api_key")),
    (CLIENT, (403, "metrics_key_needed"), (401, "invalid_api_key")),
    (SCRAPER, (200, None), (200, None)),
    (KEY, (200, None), (200, None)),
]


@pytest.mark.parametrize(("key", "clients", "admins"), KEY_CASES)
async def test_who_may_scrape(file: Path, key: NewKey | str | None, clients: object, admins: object) -> None:
    write(file, CONFIG + KEYS)
    async with admin(file) as (service, api), gateway(service.service) as main:
        assert (await service.ask("small", api_key=CLIENT.raw)).text() == "ok"
        for listener, expected in ((main, clients), (api, admins)):
            answer = await (await listener.connect()).get("/metrics", headers=bearer(key))
            assert (answer.status, answer.error["code"] if answer.status != 200 else None) == expected
            assert (b'tenant="acme"' in answer.body) == (answer.status == 200)
            if answer.status == 403:
                assert "penstock keys new --metrics" in answer.error["message"]


async def test_a_scrapers_key_opens_nothing_else(file: Path) -> None:
    write(file, CONFIG + KEYS)
    async with admin(file) as (service, api), gateway(service.service) as main:
        assert (await service.ask("small", api_key=SCRAPER.raw)).refusal.body.status == 401
        assert (await (await main.connect()).get("/v1/models", headers=bearer(SCRAPER))).status == 401
        assert (await (await api.connect()).get("/admin/policy", headers=bearer(SCRAPER))).status == 401


@pytest.mark.parametrize(("tables", "status"), [("", 200), ("metrics", 401), ("admin", 200)])
async def test_metrics_where_clients_need_no_key(file: Path, tables: str, status: int) -> None:
    key = f'\n[[{tables}.keys]]\nid = "ops"\nhash = "{SCRAPER.settings.hash}"\n' if tables else ""
    write(file, CONFIG + key)
    async with admin(file) as (service, _), gateway(service.service) as main:
        client = await main.connect()
        assert (await client.get("/metrics")).status == status
        assert (await client.get("/metrics", headers=bearer(SCRAPER))).status == 200


async def test_a_key_is_made_replaced_and_revoked(file: Path) -> None:
    write(file, f'{CONFIG}[admin]\nkeys_file = "keys.toml"\n{KEYS}')
    async with admin(file) as (service, api), gateway(service.service) as clients:
        client = await api.connect()
        body = {"tenant": "acme", "id": "new", "expires": "90d", "models": ["small"], "endpoints": ["chat"]}
        made = await client.request("/admin/keys", body, headers=BEARER)
        assert (made.status, made.headers["cache-control"]) == (201, "no-store")
        assert made.json["made"] | {"expires": "", "expires_in_s": 0} == {
            "id": "new", "kind": "tenant", "tenant": "acme", "state": "valid", "expires": "", "expires_in_s": 0,
            "models": ["small"], "endpoints": ["chat"], "roles": [], "stored": True,
        }  # fmt: skip
        rotated = await client.request("/admin/keys/new/rotate", {"overlap": "0s"}, headers=BEARER)
        assert (rotated.status, rotated.headers["cache-control"]) == (200, "no-store")
        assert (rotated.json["made"]["id"], rotated.json["replaces"]["state"]) == ("new-2", "expired")

        async def status(key: str) -> int:
            found = await (await clients.connect()).get("/v1/models", headers=f"Authorization: Bearer {key}\r\n")
            return found.status

        assert [await status(each.json["key"]) for each in (made, rotated)] == [401, 200]
        await client.send(f"DELETE /admin/keys/new-2 HTTP/1.1\r\nHost: localhost\r\n{BEARER}\r\n".encode())
        assert (await client.response()).json == {"revoked": "new-2"}
        assert await status(rotated.json["key"]) == 401
        for path, body, code in (
            ("/admin/keys", {"id": "x"}, "bad_json"),
            ("/admin/keys", {"tenant": "acme", "endpoints": ["all"]}, "bad_json"),
            ("/admin/keys", {"tenant": "none"}, "tenant_not_found"),
            ("/admin/keys/app/rotate", b"", "key_in_configuration"),
            ("/admin/keys/x/rotate", b"", "key_not_found"),
        ):
            assert (await client.request(path, body, headers=BEARER)).error["code"] == code
