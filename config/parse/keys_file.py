"""The file in which the admin API keeps tenants' keys: TOML with the hashes of the keys, replaced as a whole.

Several processes may read and change it: changes follow one another, by a lock on the file `NAME.lock`, and a reader
gets the content before or after a change.
"""

import datetime as dt
import fcntl
import os
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from config.model.settings import AdminKey, MetricsKey
from config.model.table import Moment, Table
from config.model.tenancy import KEY_HASH, KEY_ID, KeySettings, StoredKeys
from config.model.units import write_moment

_HEAD = "# Written by the admin API of Penstock; see `keys_file` in [admin].\nschema = 1\n"


class BadKeysFile(Exception):  # noqa: N818  (as BadCalibration)
    """The file cannot be read, or is not one that the admin API has written."""


class _File(Table, frozen=True):
    schema: Literal[1]
    keys: tuple[KeySettings, ...] = ()


def read_keys_file(path: Path) -> StoredKeys:
    """The keys of the file; none if there is no file. Raises BadKeysFile."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        keys = msgspec.convert(tables, _File, dec_hook=_moment).keys
    except FileNotFoundError:
        return StoredKeys()
    except OSError as error:
        raise BadKeysFile(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise BadKeysFile(f"{path} is not a file of keys: {error}") from None
    for key in keys:
        if not KEY_ID.fullmatch(key.id) or not KEY_HASH.fullmatch(key.hash):
            raise BadKeysFile(f"{path} is not a file of keys: the id or the hash of one has another form")
    return StoredKeys(keys)


def change_keys_file(path: Path, change: Callable[[StoredKeys], StoredKeys]) -> None:
    """Replace the content by what `change` makes of it; on disk when this returns.

    Raises BadKeysFile, OSError, and what `change` raises; then the file is as before.
    """
    with _locked(path.with_name(f"{path.name}.lock")):
        text = _HEAD + "".join([f"\n{key_table('keys', key)}" for key in change(read_keys_file(path)).keys])
        new = path.with_name(f".{path.name}.new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def key_table(table: str, key: KeySettings | AdminKey | MetricsKey) -> str:
    """A key as an entry of this list, in TOML; what is at its default is left out."""
    lines = [f"[[{table}]]"]
    for field in msgspec.structs.fields(key):
        value = getattr(key, field.name)
        if isinstance(value, Moment):
            lines.append(f"{field.name} = {write_moment(value)}")
        elif value != field.default:
            lines.append(f"{field.name} = {msgspec.json.encode(value).decode()}")
    return "\n".join([*lines, ""])


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _moment(kind: type, value: Any) -> Any:
    if kind is Moment and isinstance(value, dt.datetime) and value.tzinfo is not None:
        return Moment(value.timestamp())
    raise ValueError(f"{value!r} is not a date and time with its offset")
