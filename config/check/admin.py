"""Checks the address of the admin API, and the keys of operators and scrapers."""

import re

from config.binding import is_loopback
from config.model.settings import Settings
from config.problems.problems import Problems
from config.problems.source_map import Path

_KEY_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")


def check_admin(settings: Settings, problems: Problems) -> None:
    """Check that the admin API is protected by keys or on loopback, and that its port is free."""
    admin, server = settings.admin, settings.server
    if admin.enabled and not admin.keys and not is_loopback(admin.host):
        problems.add(
            ("admin", "host"),
            f"'{admin.host}' can be reached from other machines, and there are no [[admin.keys]]",
            expected="a loopback address such as 127.0.0.1, or keys (make one with `penstock keys new --admin`)",
        )
    if admin.enabled and admin.port == server.port != 0 and admin.host == server.host:
        problems.add(("admin", "port"), f"the server listens on port {admin.port} already", expected="another port")


def check_operators_keys(settings: Settings, problems: Problems) -> None:
    """Check ids and hashes, and that no key is in two lists: tenants', operators' and scrapers' rights are separate."""
    hashes = {key.hash for key in settings.keys}
    for table, option in (("admin", "--admin"), ("metrics", "--metrics")):
        ids: set[str] = set()
        for index, key in enumerate(getattr(settings, table).keys):
            path: Path = (table, "keys", index)
            if not _KEY_ID.fullmatch(key.id):
                problems.add((*path, "id"), "this is no key id", expected="1 to 64 letters, digits or hyphens")
            elif key.id in ids:
                problems.add((*path, "id"), f"the key id '{key.id}' is given twice")
            ids.add(key.id)
            if not _HASH.fullmatch(key.hash):
                problems.add(
                    (*path, "hash"),
                    "this is no SHA-256 of a key",
                    expected=f"64 hex digits in lower case, as `penstock keys new {option}` prints them",
                )
            elif key.hash in hashes:
                problems.add((*path, "hash"), "the same key is given twice", expected="a key that is in no other list")
            hashes.add(key.hash)
