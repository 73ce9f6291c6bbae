"""`penstock keys`: what it prints goes into a configuration, and works there."""

import re
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.load import load_settings
from gateway.cli.main import main
from policies.admission.keys import KeyGrant, KeyRing
from tests.actors.configuration import CONFIG

DAY_S = 86_400


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The raw key, and all that was printed."""
    out = capsys.readouterr().out
    raw = re.search(r"shown only once: (\S+)", out)
    assert raw is not None
    return raw[1], out


def table_of(out: str) -> str:
    found = re.search(r"^\[\[[a-z.]*keys\]\]\n(?:[a-z]+ = .*\n)+", out, re.MULTILINE)
    assert found is not None
    return found[0]


@pytest.fixture
def file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A configuration with one key of each kind."""
    path = tmp_path / "penstock.toml"
    text = CONFIG + "[tenants.acme]\n"
    for options in (["--tenant", "acme", "--id", "app", "--models", "small"], ["--admin", "--id", "ops"],
                    ["--metrics", "--id", "prom"]):  # fmt: skip
        assert main(["keys", "new", *options]) == 0
        text += table_of(printed(capsys)[1])
    path.write_text(text)
    return path


def test_a_new_key_with_a_scope_and_a_time(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    words = ["--tenant", "acme", "--id", "b", "--models", "small, large*", "--endpoints", "chat", "--expires", "90d"]
    before = time.time()
    assert main(["keys", "new", *words]) == 0
    raw, out = printed(capsys)
    file.write_text(file.read_text() + table_of(out))
    ring = KeyRing(load_settings(file).keys)
    grant = KeyGrant("acme", "b", models=("small", "large*"), endpoints=("chat",))
    assert ring.authenticate(raw, before + 89 * DAY_S) == grant
    assert ring.authenticate(raw, time.time() + 90 * DAY_S) == "expired"


def test_a_new_admin_key_with_one_role(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "--admin", "--id", "a", "--roles", "read", "--expires", "2027-01-31T00:00:00Z"]) == 0
    (entry,) = tomllib.loads(table_of(printed(capsys)[1]))["admin"]["keys"]
    assert entry["roles"] == ["read"]
    assert entry["expires"].isoformat() == "2027-01-31T00:00:00+00:00"


@pytest.mark.parametrize(("name", "table"), [("app", "keys"), ("ops", "admin.keys"), ("prom", "metrics.keys")])
def test_two_keys_are_valid_while_one_replaces_the_other(
    capsys: pytest.CaptureFixture[str], file: Path, name: str, table: str
) -> None:
    options = {"app": [], "ops": ["--admin"], "prom": ["--metrics"]}[name]
    before = time.time()
    assert main(["keys", "rotate", name, "--config", str(file), "--overlap", "2d", *options]) == 0
    raw, out = printed(capsys)
    assert f"[[{table}]]" in out
    line = re.search(r"^expires = .*$", out, re.MULTILINE)
    assert line is not None
    text = file.read_text().replace(f'id = "{name}"\n', f'id = "{name}"\n{line[0]}\n')
    file.write_text(text + table_of(out))
    settings = load_settings(file)
    lists: dict[str, Sequence[Any]] = {
        "keys": settings.keys,
        "admin.keys": settings.admin.keys,
        "metrics.keys": settings.metrics.keys,
    }
    keys = lists[table]
    old, new = keys
    assert (old.id, new.id, new.expires) == (name, f"{name}-2", None)
    assert old.expires == pytest.approx(before + 2 * DAY_S, abs=120)
    replaced = msgspec.structs.replace(old, id=new.id, hash=new.hash, expires=None)
    assert replaced == new
    assert isinstance(KeyRing(keys).authenticate(raw, before), KeyGrant)


def test_a_key_that_ends_earlier_is_not_prolonged(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(file.read_text().replace('id = "app"\n', 'id = "app"\nexpires = 2001-01-01T00:00:00Z\n'))
    assert main(["keys", "rotate", "app", "--config", str(file)]) == 0
    assert "\nexpires = 2001-01-01T00:00:00Z\n" in printed(capsys)[1]


def test_a_key_of_the_keys_file(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(file.read_text() + '[admin]\nkeys_file = "keys.toml"\n')
    entry = f'id = "api"\ntenant = "acme"\nhash = "{"a" * 64}"\n'
    (file.parent / "keys.toml").write_text(f"schema = 1\n[[keys]]\n{entry}")
    assert main(["keys", "list", "--config", str(file)]) == 0
    assert ["api", "tenant", "acme", "valid", "all"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert main(["keys", "rotate", "api", "--config", str(file)]) == 2
    assert "the admin API replaces it" in capsys.readouterr().err


def test_the_list(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(file.read_text().replace('id = "app"\n', 'id = "app"\nexpires = 2001-01-01T00:00:00Z\n'))
    assert main(["keys", "list", "--config", str(file)]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert rows[1] == ["app", "tenant", "acme", "expired", "small"]
    assert rows[2] == ["ops", "admin", "-", "valid", "read,", "operate,", "adapters,", "keys"]
    assert rows[3] == ["prom", "metrics", "-", "valid", "all"]
    assert main(["keys", "list", "--config", str(file), "--json"]) == 0
    shown = capsys.readouterr().out
    assert [key["id"] for key in msgspec.json.decode(shown)] == ["app", "ops", "prom"]
    assert not re.search(r"[0-9a-f]{64}", out + shown)


MISTAKES = [
    (["new", "--tenant", "a", "--roles", "read"], "add --admin"),
    (["new", "--admin", "--roles", "root"], "'root' is not one of read, operate, adapters"),
    (["new", "--admin", "--models", "x"], "give --tenant"),
    (["new", "--tenant", "a", "--endpoints", "images"], "'images' is not one of chat, completions, embeddings"),
    (["new", "--tenant", "a", "--expires", "soon"], "--expires: 'soon' is not"),
    (["new", "--tenant", "a", "--expires", "99999999d"], "--expires: '99999999d' ends at no date"),
    (["new", "--tenant", ""], "the name of a tenant is missing"),
    (["rotate", "app", "--overlap", "99999999d"], "--overlap: '99999999d' ends at no date"),
    (["rotate", "app", "--overlap", "soon"], "--overlap: 'soon' is not"),
    (["rotate", "none"], "has no key 'none' in [[keys]]: it has app"),
    (["rotate", "app", "--admin"], "has no key 'app' in [[admin.keys]]: it has ops"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES)
def test_mistakes(capsys: pytest.CaptureFixture[str], file: Path, words: list[str], said: str) -> None:
    config = [] if words[0] == "new" else ["--config", str(file)]
    assert main(["keys", *words, *config]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
