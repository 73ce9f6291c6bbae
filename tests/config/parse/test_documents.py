"""A configuration in several files."""

from pathlib import Path

import pytest

from config.load import files_of, load, load_settings
from config.model.tenancy import KeySettings, StoredKeys
from config.parse.keys_file import change_keys_file
from config.problems.errors import ConfigError
from config.source import ConfigSource

ENGINES = """\
schema = 1
[server]
port = 9000
[engines.small]
model = "m/small"
[models.chat]
[models.code]
"""
SHOP = """\
schema = 1
[[routes]]
name = "code"
when = { model = ["code"] }
use = { ladder = "safe" }
"""
REST = """\
schema = 1
[server]
drain = "5s"
[[routes]]
name = "rest"
use = { ladder = "safe" }
[[ladders.safe]]
to = "small"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("10-engines", ENGINES), ("20-shop", SHOP), ("90-rest", REST)):
        (tmp_path / f"{name}.toml").write_text(text)
    (tmp_path / ".#20-shop.toml").write_text("left by an editor")
    (tmp_path / "notes.txt").write_text("no configuration")
    return tmp_path


def test_tables_are_merged_and_lists_concatenated(folder: Path) -> None:
    settings = load_settings(folder)
    assert [route.name for route in settings.routes] == ["code", "rest"]
    assert (settings.server.port, settings.server.drain) == (9000, 5.0)
    assert settings.engines["small"].model == folder / "m" / "small"
    assert set(settings.models) == {"chat", "code"}


def test_the_files_are_known_by_name(folder: Path) -> None:
    expected = tuple(folder / name for name in ("10-engines.toml", "20-shop.toml", "90-rest.toml"))
    assert files_of(folder) == load(folder).files == expected
    assert files_of(folder / "20-shop.toml") == (folder / "20-shop.toml",)


TENANT = """\
schema = 1
[admin]
keys_file = "keys.toml"
[tenants.acme]
[[keys]]
id = "first"
tenant = "acme"
hash = "1111111111111111111111111111111111111111111111111111111111111111"
"""


def test_the_keys_file_may_be_in_the_folder(folder: Path) -> None:
    (folder / "30-tenant.toml").write_text(TENANT)
    stored = KeySettings(id="second", tenant="acme", hash="2" * 64)
    change_keys_file(folder / "keys.toml", lambda _: StoredKeys((stored,)))
    loaded = load(folder)
    assert [key.id for key in loaded.settings.keys] == ["first"]
    assert loaded.settings.admin.stored == StoredKeys((stored,))
    assert [file.name for file in loaded.files] == ["10-engines.toml", "20-shop.toml", "30-tenant.toml", "90-rest.toml"]
    files = list(ConfigSource(folder).files(loaded.settings))
    assert files.count(folder / "keys.toml") == 1


@pytest.mark.parametrize("name", ["30-tenant.toml", "20-shop.toml"])
def test_a_file_of_the_configuration_is_no_keys_file(folder: Path, name: str) -> None:
    (folder / "30-tenant.toml").write_text(TENANT.replace("keys.toml", name))
    expected = f"admin.keys_file: {folder}/{name} is not a file of keys"
    assert any(expected in message for message in reported(folder))


def reported(folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(folder)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def test_each_problem_names_its_own_file(folder: Path) -> None:
    (folder / "20-shop.toml").write_text(SHOP.replace('"code"]', '"cod"]'))
    (folder / "90-rest.toml").write_text(REST.replace('to = "small"', 'to = "smal"').replace("safe", "save", 1))
    messages = reported(folder)
    assert [message.split(": ")[:2] for message in messages] == [
        ["20-shop.toml:4:19", "routes[0].when.model[0]"],
        ["90-rest.toml:6:18", "routes[1].use.ladder"],
        ["90-rest.toml:8:6", "ladders.safe[0].to"],
    ]


def test_what_two_files_say_is_reported_with_both_places(folder: Path) -> None:
    (folder / "30-more.toml").write_text('schema = 1\n[engines.small]\nmodel = "x"\n[server]\nport = 1\n')
    expected = "too; expected it in one file as a whole"
    assert reported(folder) == [
        f"30-more.toml:2:10: engines.small: 'engines.small' is given by {folder}/10-engines.toml:4, {expected}",
        f"30-more.toml:5:1: server.port: 'server.port' is given by {folder}/10-engines.toml:3, {expected}",
    ]


def test_every_file_has_the_key_schema(folder: Path) -> None:
    (folder / "20-shop.toml").write_text(SHOP.replace("schema = 1\n", ""))
    (folder / "90-rest.toml").write_text(REST.replace("schema = 1", "schema = 2"))
    assert [message.split(";")[0] for message in reported(folder)] == [
        "20-shop.toml:1:1: schema: the key 'schema' is missing",
        f"90-rest.toml:1:1: schema: 'schema' is given by {folder}/10-engines.toml:1, too",
    ]


def test_the_syntax_of_all_files_is_reported_at_once(folder: Path) -> None:
    (folder / "20-shop.toml").write_text("schema = = 1\n")
    (folder / "90-rest.toml").write_text("schema = 1\n[open\n")
    assert [message.split(": ")[0] for message in reported(folder)] == ["20-shop.toml:1:10", "90-rest.toml:2:6"]
    (folder / "10-engines.toml").write_bytes(b"\xff")
    assert reported(folder)[0].startswith("10-engines.toml:1:1: this is not UTF-8")
    assert len(reported(folder)) == 3
