"""The keys file: what is written is read again, nothing else is, and no change is lost or half made."""

import os
import stat
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from config.model.table import Moment
from config.model.tenancy import KeySettings, StoredKeys
from config.parse.keys_file import BadKeysFile, change_keys_file, read_keys_file

HASH = "0" * 64
PLAIN = KeySettings(id="app", tenant="acme", hash=HASH)
FULL = KeySettings(
    id="b", tenant='a"c\\me\n', hash="1" * 64, expires=Moment(1_900_000_000), models=("small*",), endpoints=("chat",)
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_what_is_written_is_read(file: Path) -> None:
    assert read_keys_file(file) == StoredKeys()
    change_keys_file(file, lambda _: StoredKeys((PLAIN, FULL)))
    assert read_keys_file(file) == StoredKeys((PLAIN, FULL))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    change_keys_file(file, lambda stored: StoredKeys(stored.keys[1:]))
    assert read_keys_file(file) == StoredKeys((FULL,))
    assert {each.name for each in file.parent.iterdir()} == {"keys.toml", "keys.toml.lock"}


ENTRY = f'[[keys]]\nid = "a"\ntenant = "t"\nhash = "{HASH}"\n'
BAD: dict[str, str | bytes] = {
    "no TOML": "schema = ",
    "no UTF-8": b"schema = 1 # \xff",
    "another schema": "schema = 2",
    "no schema": ENTRY,
    "another table": "schema = 1\n[server]\nport = 1",
    "another key": f"schema = 1\n{ENTRY}secret = 1",
    "no hash": 'schema = 1\n[[keys]]\nid = "a"\ntenant = "t"',
    "another hash": f"schema = 1\n{ENTRY}".replace(HASH, "x"),
    "another id": f"schema = 1\n{ENTRY}".replace('"a"', '"a b"'),
    "a time without offset": f"schema = 1\n{ENTRY}expires = 2030-01-01T00:00:00",
    "a date": f"schema = 1\n{ENTRY}expires = 2030-01-01",
    "an endpoint that there is not": f'schema = 1\n{ENTRY}endpoints = ["all"]',
}


@pytest.mark.parametrize("name", BAD)
def test_another_file_is_refused_and_left_alone(file: Path, name: str) -> None:
    content = BAD[name]
    raw = content if isinstance(content, bytes) else content.encode()
    file.write_bytes(raw)
    for use in (read_keys_file, lambda path: change_keys_file(path, lambda _: StoredKeys())):
        with pytest.raises(BadKeysFile, match=r"keys\.toml"):
            use(file)
    assert file.read_bytes() == raw


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadKeysFile, match="cannot be read"):
        read_keys_file(tmp_path)


def test_a_change_that_is_refused_changes_nothing(file: Path) -> None:
    change_keys_file(file, lambda _: StoredKeys((PLAIN,)))
    before = file.read_bytes()

    def refuse(_: StoredKeys) -> StoredKeys:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_keys_file(file, refuse)
    assert file.read_bytes() == before


def test_changes_at_the_same_time_follow_one_another(file: Path) -> None:
    def add(number: int) -> None:
        key = msgspec.structs.replace(PLAIN, id=f"k{number}", hash=f"{number:064x}")
        change_keys_file(file, lambda stored: StoredKeys((*stored.keys, key)))

    threads = [Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.id for key in read_keys_file(file).keys} == {f"k{number}" for number in range(12)}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_takes_no_file(file: Path) -> None:
    file.parent.chmod(0o500)
    with pytest.raises(OSError, match="denied"):
        change_keys_file(file, lambda _: StoredKeys())
