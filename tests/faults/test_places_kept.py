"""With all places taken that the lowest tier can take, probes, operators and the tier above are served.

One table: how the places are taken × who asks then. Over sockets, before a real service.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from policies.admission.keys import METRICS_PREFIX, new_key
from tests.actors.fakes import CONFIG, Stage, says
from tests.gateway.endpoints.test_admin_routes import admin
from tests.gateway.harness import Client, Gateway, gateway, until

FREE, PAID = new_key("free", bytes(range(38)), "free"), new_key("paid", bytes(range(1, 39)), "paid")
OPS = new_key("", bytes(range(2, 40)), "ops")
SCRAPER = new_key("", bytes(range(3, 41)), "scraper", prefix=METRICS_PREFIX)
KEYS = "".join(
    f'[[{table}]]\nid = "{key.settings.id}"\nhash = "{key.settings.hash}"\n{more}\n'
    for table, key, more in (
        ("keys", FREE, 'tenant = "free"'),
        ("keys", PAID, 'tenant = "paid"'),
        ("admin.keys", OPS, ""),
        ("metrics.keys", SCRAPER, ""),
    )
)
SETTINGS = f"""{CONFIG}{KEYS}
[tenants.free]
[tenants.paid]
tier = "premium"
[tiers.premium]
priority = 10
queue = {{ wait = "20s", requests = 8, tokens = 400_000 }}
""".replace("max_running = 4", "max_running = 8", 1)
PLACES, FOR_ABOVE = 8, 2
CHAT = {"model": "small", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}
WHOLE = {**CHAT, "max_tokens": 150, "ignore_eos": True, "n": 4}
ENDLESS = {**CHAT, "max_tokens": 3000, "ignore_eos": True, "stream": True}
BODY = 40_000


def bearer(raw: str) -> str:
    return f"authorization: Bearer {raw}\r\n"


async def slow_body(client: Client) -> None:
    """The head is complete, and half of the body."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n{bearer(FREE.raw)}"
    await client.send(f"{head}content-length: {BODY}\r\n\r\n".encode() + b" " * (BODY // 2))


async def idle(client: Client) -> None:
    await client.get("/v1/models", headers=bearer(FREE.raw))


async def stream(client: Client) -> None:
    await client.post("/v1/chat/completions", ENDLESS, headers=bearer(FREE.raw))
    await client.head()


async def waiting(client: Client) -> None:
    """More than run at once: the others wait in the queue."""
    await client.post("/v1/chat/completions", WHOLE, headers=bearer(FREE.raw))


async def slow_head(client: Client) -> None:
    await client.send(b"POST /v1/chat/completions HT")


async def unread(client: Client) -> None:
    """A stream that nothing is read of."""
    await client.post("/v1/chat/completions", ENDLESS, headers=bearer(FREE.raw))


TAKEN: dict[str, Callable[[Client], Awaitable[None]]] = {
    "slow bodies": slow_body,
    "slow heads": slow_head,
    "idle connections": idle,
    "running streams": stream,
    "unread streams": unread,
    "waiting requests": waiting,
}
WORKS = {"slow bodies", "running streams", "unread streams", "waiting requests"}


async def probe(path: str, api: Gateway, admins: Gateway) -> int:
    del admins
    return (await (await api.connect()).get(path, headers=bearer(SCRAPER.raw))).status


async def operate(path: str, api: Gateway, admins: Gateway) -> int:
    del api
    return (await (await admins.connect()).get(path, headers=bearer(OPS.raw))).status


async def change(api: Gateway, admins: Gateway) -> int:
    del api
    return (await (await admins.connect()).request("/admin/policy/reload", b"", headers=bearer(OPS.raw))).status


async def ask(raw: str, api: Gateway, admins: Gateway) -> int:
    del admins
    return (await (await api.connect()).request("/v1/chat/completions", CHAT, headers=bearer(raw))).status


async def large(api: Gateway, admins: Gateway) -> int:
    del admins
    body = {**CHAT, "user": "x" * 20_000}
    return (await (await api.connect()).request("/v1/chat/completions", body, headers=bearer(PAID.raw))).status


ASKED: dict[str, Callable[[Gateway, Gateway], Awaitable[int]]] = {
    **{path: partial(probe, path) for path in ("/livez", "/readyz", "/readyz?model=small", "/metrics")},
    **{f"admin {path}": partial(operate, path) for path in ("/admin/policy", "/metrics")},
    "admin reload": change,
    "premium": partial(ask, PAID.raw),
    "premium, a large body": large,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "service.toml"
    path.write_text(SETTINGS)
    return path


@asynccontextmanager
async def full(file: Path, name: str) -> AsyncIterator[tuple[Stage, Gateway, Gateway]]:
    """The service when the lowest tier has taken all that it can in this way."""
    bounds = {"max_connections": PLACES, "probe_connections": 4, "tier_connections": FOR_ABOVE,
              "body_memory": BODY * 4, "max_body": BODY}  # fmt: skip
    async with (
        admin(file, scripts={"small": says("okay")}, lengths={"small": 4096}, clean=False) as (service, admins),
        gateway(service.service, **bounds) as api,
    ):
        service.workers.step_s = 0.005
        for _ in range(PLACES + 6):
            await TAKEN[name](await api.connect())
        if name in WORKS:
            await until(lambda: api.server.statistics().working == PLACES - FOR_ABOVE)
        yield service, api, admins


@pytest.mark.parametrize("name", TAKEN)
async def test_everyone_above_is_served(file: Path, name: str) -> None:
    async with full(file, name) as (_, api, admins):
        refused = await ask(FREE.raw, api, admins)
        assert refused == (503 if name in WORKS else 200)
        found = {who: await each(api, admins) for who, each in ASKED.items()}
        assert found == dict.fromkeys(ASKED, 200)
        # Those that had the places have them still.
        if name in WORKS - {"waiting requests"}:
            assert api.server.statistics().working == PLACES - FOR_ABOVE
