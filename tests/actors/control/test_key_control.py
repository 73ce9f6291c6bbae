"""Keys that operators make, replace and revoke while the service serves: at once, for good, and for every process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from actors.api.errors import BadKey, Conflict, InvalidRequest, KeyExpired, NotFound, Refusal, Unavailable
from actors.control.key_control import MadeKey
from config.load import load
from config.parse.keys_file import read_keys_file
from config.problems.errors import ConfigError
from config.source import ConfigSource
from policies.admission.keys import new_key
from tests.actors.fakes import CONFIG, Stage, says, stage

KEY = new_key("acme", bytes(range(38)), "toml")
TEXT = f"""{CONFIG}
[admin]
keys_file = "kept/keys.toml"
[tenants.acme]
[tenants.other]
[[keys]]
id = "toml"
tenant = "acme"
hash = "{KEY.settings.hash}"
"""
PLAIN = {"key_id": None, "expires": None, "models": (), "endpoints": (), "by": "ops"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "kept").mkdir()
    path = tmp_path / "service.toml"
    path.write_text(TEXT)
    return path


def write(file: Path, text: str) -> None:
    file.write_text(text)


def spoil(file: Path) -> None:
    file.write_text("schema =")


def keys_file(file: Path) -> Path:
    return file.parent / "kept/keys.toml"


@asynccontextmanager
async def serving(file: Path, **options: object) -> AsyncIterator[Stage]:
    async with stage({"small": says("ok")}, source=ConfigSource(file), **options) as service:
        yield service


async def opens(service: Stage, raw: str) -> bool:
    answer = await service.ask("small", api_key=raw)
    assert answer.refusal is None or isinstance(answer.refusal, BadKey)
    return answer.refusal is None


async def test_the_life_of_a_key(autojump_clock, file: Path):
    now = [1_000_000.0]
    async with serving(file, wall=lambda: now[0]) as service:
        keys = service.service.admin.keys
        with capture_logs() as logs:
            made = await keys.create("acme", **{**PLAIN, "key_id": "app", "expires": "90d", "models": ("small",)})
            assert await opens(service, made.key)
            replaced = await keys.rotate("app", overlap="1d", expires=None, by="ops")
            assert await opens(service, made.key)
            assert await opens(service, replaced.key)
            now[0] += 86_400
            assert isinstance((await service.ask("small", api_key=made.key)).refusal, KeyExpired)
            assert await opens(service, replaced.key)
            await keys.revoke("app-2", by="boss")
            assert not await opens(service, replaced.key)
            assert await opens(service, KEY.raw)
        changes = [line for line in logs if line["event"].startswith("key_")]
        assert [(line["event"], line["key"], line["by"]) for line in changes] == [
            ("key_created", "app", "ops"), ("key_rotated", "app", "ops"), ("key_revoked", "app-2", "boss")]  # fmt: skip
        shown = str(logs) + repr(made) + keys_file(file).read_text() + msgspec.json.encode(keys.states()).decode()
        assert not any(raw[-20:] in shown for raw in (made.key, replaced.key))
        assert (replaced.made.id, replaced.made.models, replaced.replaces.expires_in_s) == ("app-2", ("small",), 86_400)
        assert {state.id: state.stored for state in keys.states()} == {"toml": False, "app": True}


async def test_a_key_outlives_the_process(autojump_clock, file: Path):
    async with serving(file) as service:
        made = await service.service.admin.keys.create("acme", **PLAIN)
        await service.service.admin.keys.create("other", **{**PLAIN, "key_id": "gone"})
        await service.service.admin.keys.revoke("gone", by="")
    async with serving(file) as service:
        assert await opens(service, made.key)
        assert [state.id for state in service.service.admin.keys.states()] == ["toml", made.made.id]


@pytest.mark.parametrize("broken", [False, True])
async def test_another_process_follows_whatever_else_its_configuration_says(autojump_clock, file: Path, broken):
    async with serving(file) as one, serving(file) as two:
        made = await one.service.admin.keys.create("acme", **PLAIN)
        await trio.sleep(3)
        assert await opens(two, made.key)
        if broken:
            write(file, TEXT.replace("retries", "retrys"))
        await one.service.admin.keys.revoke(made.made.id, by="")
        assert not await opens(one, made.key)
        await trio.sleep(3)
        assert not await opens(two, made.key)
        assert await opens(two, KEY.raw)


async def test_a_reload_keeps_them(autojump_clock, file: Path):
    async with serving(file) as service:
        made = await service.service.admin.keys.create("acme", **PLAIN)
        write(file, TEXT.replace("retries = 1", "retries = 2"))
        assert (await service.service.admin.reload()).changed == ("ladders.small-first",)
        assert await opens(service, made.key)
        write(file, TEXT.replace("[tenants.other]", "[tenants.third]"))
        await service.service.admin.reload()
        with pytest.raises(NotFound):
            await service.service.admin.keys.create("other", **PLAIN)


async def test_the_last_key_does_not_open_the_door(autojump_clock, file: Path):
    write(file, TEXT[: TEXT.index("[[keys]]")])
    async with serving(file) as service:
        keys = service.service.admin.keys
        assert isinstance((await service.ask("small")).refusal, BadKey)
        made = await keys.create("acme", **PLAIN)
        assert await opens(service, made.key)
        await keys.revoke(made.made.id, by="")
        assert isinstance((await service.ask("small")).refusal, BadKey)
        assert not service.service.clients.keyless


async def test_a_key_whose_tenant_is_gone_opens_nothing(autojump_clock, file: Path):
    async with serving(file) as service:
        made = await service.service.admin.keys.create("other", **PLAIN)
        write(file, TEXT.replace("[tenants.other]\n", ""))
        await service.service.admin.reload()
        assert not await opens(service, made.key)
        assert "'other', which is no tenant" in str(load(file).warnings)
        write(file, TEXT)
        await service.service.admin.reload()
        assert await opens(service, made.key)


async def test_a_key_in_both_places_is_an_error_that_says_so(autojump_clock, file: Path):
    async with serving(file) as service:
        await service.service.admin.keys.create("acme", **{**PLAIN, "key_id": "app"})
        keys_file(file).write_text(keys_file(file).read_text().replace('"app"', '"toml"'))
        with pytest.raises(ConfigError, match="'toml' of the keys file is given twice"):
            load(file)
        refused = await service.service.admin.reload()
        assert "'toml' of the keys file" in str(refused.problems)
        # What is in force is not touched by it.
        assert [state.id for state in service.service.admin.keys.states()] == ["toml", "app"]


REFUSED: dict[str, tuple[dict[str, Any], type[Refusal], str]] = {
    "an id that is none": ({"key_id": "a b"}, InvalidRequest, "bad_key_id"),
    "a time that is none": ({"expires": "soon"}, InvalidRequest, "bad_time"),
    "a time beyond all dates": ({"expires": "99999999d"}, InvalidRequest, "bad_time"),
    "a model that there is not": ({"models": ("smoll",)}, InvalidRequest, "model_not_found"),
    "an id that is taken": ({"key_id": "toml"}, Conflict, "key_exists"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_key_that_is_not_made(autojump_clock, file: Path, name):
    given, kind, code = REFUSED[name]
    async with serving(file) as service:
        with pytest.raises(kind) as caught:
            await service.service.admin.keys.create("acme", **{**PLAIN, **given})
        assert caught.value.body.code == code
        assert not keys_file(file).exists() or not read_keys_file(keys_file(file)).keys


async def code_of(change: object) -> str:
    with pytest.raises(Refusal) as caught:
        await change
    return caught.value.body.code


async def test_what_is_not_in_the_keys_file_is_not_changed(autojump_clock, file: Path):
    async with serving(file) as service:
        keys = service.service.admin.keys
        for name, code in (("toml", "key_in_configuration"), ("none", "key_not_found")):
            assert await code_of(keys.rotate(name, overlap="1d", expires=None, by="")) == code
            assert await code_of(keys.revoke(name, by="")) == code
        for overlap in ("soon", "99999999d"):
            assert await code_of(keys.rotate("toml", overlap=overlap, expires=None, by="")) == "bad_duration"
        assert await opens(service, KEY.raw)
    write(file, TEXT.replace('keys_file = "kept/keys.toml"', ""))
    async with serving(file) as service:
        assert await code_of(service.service.admin.keys.create("acme", **PLAIN)) == "no_keys_file"


async def test_a_file_that_is_spoilt_changes_no_key_and_says_so(autojump_clock, file: Path):
    async with serving(file) as service:
        keys = service.service.admin.keys
        made: MadeKey = await keys.create("acme", **PLAIN)
        spoil(keys_file(file))
        with pytest.raises(Unavailable, match="is not a file of keys"):
            await keys.revoke(made.made.id, by="")
        await trio.sleep(3)
        assert await opens(service, made.key)
        with pytest.raises(ConfigError, match=r"admin\.keys_file"):
            load(file)
