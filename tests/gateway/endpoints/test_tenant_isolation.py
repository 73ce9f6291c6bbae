"""What a tenant reads, headers and bodies of every address that it may use, is the same whatever others have asked."""

import re
from pathlib import Path

import pytest

from policies.admission.keys import new_key
from tests.actors.fakes import CONFIG, says
from tests.gateway.endpoints.test_admin_routes import admin
from tests.gateway.harness import Gateway, gateway

ALICE, BOB = new_key("alice", bytes(range(38)), "alice"), new_key("bob", bytes(range(1, 39)), "bob")
SETTINGS = CONFIG + "".join(
    f'[[keys]]\nid = "{name}"\ntenant = "{name}"\nhash = "{key.settings.hash}"\n'
    f"[tenants.{name}]\ntokens = {{ per_minute = 10_000 }}\n"
    for name, key in (("alice", ALICE), ("bob", BOB))
)
PROMPT = "The same long system prompt. " * 8
ASKED = {
    "whole": {"model": "small", "prompt": PROMPT, "max_tokens": 4},
    "stream": {
        "model": "small",
        "prompt": PROMPT,
        "max_tokens": 4,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "cascade": {"model": "whole", "prompt": PROMPT, "max_tokens": 4},
}
READ = ("/v1/models", "/metrics", "/readyz", "/")
CHANCE = re.compile(rb'[0-9a-f]{24}|"created":\d+|"timings":\{[^}]*\}')
"""Ids and times."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "service.toml"
    path.write_text(SETTINGS)
    return path


async def read_by_bob(api: Gateway) -> dict[str, tuple[int, dict[str, str], bytes]]:
    """By what he asks: status, headers and body, without ids and times."""
    found = {}
    bearer = f"authorization: Bearer {BOB.raw}\r\n"
    for name, body in ASKED.items():
        found[name] = await (await api.connect()).request("/v1/completions", body, headers=bearer)
    for path in READ:
        found[path] = await (await api.connect()).get(path, headers=bearer)
    left_out = {"date", "x-request-id", "x-ratelimit-reset-tokens", "content-length"}
    return {
        name: (
            answer.status,
            {key: value for key, value in answer.headers.items() if key not in left_out},
            CHANCE.sub(b"", answer.body),
        )
        for name, answer in found.items()
    }


async def test_nothing_that_a_tenant_reads_depends_on_others(file: Path) -> None:
    seen = []
    for alice_asks in (0, 3):
        started = admin(file, scripts={"small": says("okay")}, clean=False)
        async with started as (service, _), gateway(service.service) as api:
            for _ in range(alice_asks):
                for body in ASKED.values():
                    bearer = f"authorization: Bearer {ALICE.raw}\r\n"
                    assert (await (await api.connect()).request("/v1/completions", body, headers=bearer)).status == 200
            seen.append(await read_by_bob(api))
    assert seen[0] == seen[1]
    assert seen[0]["whole"][0] == 200
    assert b'"cached_tokens":0' in seen[0]["whole"][2]
    # The figures of all tenants are for operators and scrapers.
    assert seen[0]["/metrics"][0] == 403
