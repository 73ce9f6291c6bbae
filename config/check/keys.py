"""Checks the keys of tenants, operators and scrapers, and the address of the admin API."""

from collections.abc import Iterable, Sequence

from config.check.names import known
from config.check.server import ADMIN_BINDING, admin_exposure
from config.model.settings import AdminKey, MetricsKey, Settings
from config.model.tenancy import KEY_HASH, KEY_ID, KeySettings, StoredKeys
from config.model.wildcard import fits
from config.problems.problems import Problems
from config.problems.source_map import Path


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
    _check_stored(settings, problems)


def given_twice(settings: Settings, stored: StoredKeys) -> list[str]:
    """Ids of keys that the keys file has twice, or the configuration, too: then it is not clear what they permit."""
    others: list[KeySettings | AdminKey | MetricsKey] = [*settings.keys, *settings.admin.keys, *settings.metrics.keys]
    ids, hashes = {key.id for key in settings.keys}, {key.hash for key in others}
    twice: list[str] = []
    for key in stored.keys:
        if key.id in ids or key.hash in hashes:
            twice.append(key.id)
        ids.add(key.id)
        hashes.add(key.hash)
    return twice


def _check_stored(settings: Settings, problems: Problems) -> None:
    path: Path = ("admin", "keys_file")
    stored = settings.admin.stored
    if stored is None:
        return
    for key_id in given_twice(settings, stored):
        problems.add(
            path,
            f"the key '{key_id}' of the keys file is given twice, there or in the configuration",
            expected="each key in one place: remove it from the configuration, or revoke it",
        )
    for tenant in sorted({key.tenant for key in stored.keys} - settings.tenants.keys()):
        problems.warn(path, f"the keys file has keys of '{tenant}', which is no tenant: they are refused")


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
        if not KEY_HASH.fullmatch(key.hash):
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
    if admin.enabled and (message := admin_exposure(settings, admin.host)):
        problems.add(("admin", "host"), message, expected=ADMIN_BINDING)
    if admin.enabled and admin.port == server.port != 0 and admin.host == server.host:
        problems.add(("admin", "port"), f"the server listens on port {admin.port} already", expected="another port")
