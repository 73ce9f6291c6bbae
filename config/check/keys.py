"""Checks the keys of tenants, operators and scrapers, and the address of the admin API."""

import re
from collections.abc import Iterable, Sequence

from config.check.names import known
from config.check.server import is_loopback
from config.model.settings import AdminKey, MetricsKey, Settings
from config.model.tenancy import KEY_ID, KeySettings
from config.model.wildcard import fits
from config.problems.problems import Problems
from config.problems.source_map import Path

_HASH = re.compile(r"[0-9a-f]{64}")


def check_keys(settings: Settings, problems: Problems) -> None:
    """Check ids, hashes, tenants and scopes, and that no key is in two lists: the rights of the kinds are separate."""
    hashes: set[str] = set()
    _check_list(("keys",), settings.keys, "penstock keys new", hashes, problems)
    for index, key in enumerate(settings.keys):
        known(settings, ("keys", index, "tenant"), "tenant", key.tenant, problems)
        _check_models(settings, ("keys", index, "models"), key.models, problems)
    _check_list(("admin", "keys"), settings.admin.keys, "penstock keys new --admin", hashes, problems)
    for index, admin_key in enumerate(settings.admin.keys):
        if not admin_key.roles and not problems.is_broken(("admin", "keys", index, "roles")):
            problems.add(("admin", "keys", index, "roles"), "this key opens nothing", expected="at least one role")
    _check_list(("metrics", "keys"), settings.metrics.keys, "penstock keys new --metrics", hashes, problems)


def _check_list(
    table: Path,
    keys: Iterable[KeySettings | AdminKey | MetricsKey],
    command: str,
    hashes: set[str],
    problems: Problems,
) -> None:
    """`hashes`: those of the lists before this one, to which this one's are added."""
    ids: set[str] = set()
    for index, key in enumerate(keys):
        path: Path = (*table, index)
        if not KEY_ID.fullmatch(key.id):
            problems.add((*path, "id"), "this is not a key id", expected="1 to 64 letters, digits or hyphens")
        elif key.id in ids:
            problems.add((*path, "id"), f"the key id '{key.id}' is given twice")
        ids.add(key.id)
        if not _HASH.fullmatch(key.hash):
            problems.add(
                (*path, "hash"),
                "this is not the SHA-256 of a key",
                expected=f"64 hex digits in lower case, as `{command}` prints them",
            )
        elif key.hash in hashes:
            expected = "" if isinstance(key, KeySettings) else "a key that is in no other list"
            problems.add((*path, "hash"), "the same key is given twice", expected=expected)
        hashes.add(key.hash)


def _check_models(settings: Settings, path: Path, models: Sequence[str], problems: Problems) -> None:
    """A name or wildcard that no model fits, its adapters aside, is a mistake."""
    if problems.is_broken(("models",)):
        return
    for index, wanted in enumerate(models):
        name, _, _ = wanted.partition(":")
        if not any(fits(each, name) for each in settings.models):
            problems.unknown_name((*path, index), "model", wanted, settings.models)


def check_admin(settings: Settings, problems: Problems) -> None:
    admin, server = settings.admin, settings.server
    if admin.enabled and not admin.keys and not is_loopback(admin.host):
        problems.add(
            ("admin", "host"),
            f"'{admin.host}' can be reached from other machines, and there are no [[admin.keys]]",
            expected="a loopback address such as 127.0.0.1, or keys (make one with `penstock keys new --admin`)",
        )
    if admin.enabled and admin.port == server.port != 0 and admin.host == server.host:
        problems.add(("admin", "port"), f"the server listens on port {admin.port} already", expected="another port")
