"""What becomes of a list of keys when one is made, replaced or revoked. Pure: time and random bytes are arguments."""

from collections.abc import Collection
from typing import TypeVar

import msgspec

from config.model.settings import AdminKey, MetricsKey, Settings
from config.model.table import Moment
from config.model.tenancy import KeySettings, StoredKeys
from config.model.wildcard import fits
from policies.admission.keys import new_key, next_id
from policies.errors import KeyRefused

Key = TypeVar("Key", bound=KeySettings | AdminKey | MetricsKey)
MOST_KEYS = 10_000
"""In a keys file: each change writes all of them."""


class Replacement(msgspec.Struct, frozen=True):
    """A key's successor, and the key itself with its end."""

    raw: str
    """The new key itself, for its owner only."""
    hash: str
    id: str
    expires: Moment | None
    until: Moment
    """When the old one ends."""

    def __repr__(self) -> str:
        return f"Replacement(raw=<secret>, id={self.id!r})"

    def new(self, old: Key) -> Key:
        """It may ask for what the old one may."""
        return msgspec.structs.replace(old, id=self.id, hash=self.hash, expires=self.expires)

    def ended(self, old: Key) -> Key:
        return msgspec.structs.replace(old, expires=self.until)


def replacement(
    old: KeySettings | AdminKey | MetricsKey,
    taken: Collection[str],
    random_bytes: bytes,
    *,
    prefix: str,
    now: float,
    overlap_s: float,
    expires: Moment | None,
) -> Replacement:
    """The key that follows `old`, and until when both are valid. `taken`: ids of its list."""
    made = new_key("", random_bytes, next_id(old.id, taken), prefix=prefix)
    until = Moment(now + overlap_s if old.expires is None else min(now + overlap_s, old.expires))
    return Replacement(made.raw, made.settings.hash, made.settings.id, expires, until)


def added(stored: StoredKeys, key: KeySettings, settings: Settings) -> StoredKeys:
    """With one more key. Raises KeyRefused."""
    if key.tenant not in settings.tenants:
        raise KeyRefused("tenant_not_found", f"The configuration has no tenant '{key.tenant}'.")
    for wanted in key.models:
        if not any(fits(model, wanted.partition(":")[0]) for model in settings.models):
            raise KeyRefused("model_not_found", f"The configuration has no model '{wanted}'.")
    if key.id in taken_ids(stored, settings):
        raise KeyRefused("key_exists", f"There is a key '{key.id}' already.")
    if len(stored.keys) >= MOST_KEYS:
        raise KeyRefused("too_many_keys", f"The keys file has {MOST_KEYS} keys; revoke those that have expired.")
    return StoredKeys((*stored.keys, key))


def replaced(stored: StoredKeys, by: Replacement, old_id: str, settings: Settings) -> StoredKeys:
    """With the successor, and the end of the old key. Raises KeyRefused."""
    old = found(stored, old_id, settings)
    kept = [by.ended(key) if key is old else key for key in stored.keys]
    return added(StoredKeys(tuple(kept)), by.new(old), settings)


def revoked(stored: StoredKeys, key_id: str, settings: Settings) -> StoredKeys:
    """Without the key. Raises KeyRefused."""
    old = found(stored, key_id, settings)
    return StoredKeys(tuple([key for key in stored.keys if key is not old]))


def found(stored: StoredKeys, key_id: str, settings: Settings) -> KeySettings:
    """The key of the file. Raises KeyRefused."""
    for key in stored.keys:
        if key.id == key_id:
            return key
    if any(key.id == key_id for key in settings.keys):
        raise KeyRefused(
            "key_in_configuration", f"The key '{key_id}' is in the configuration: change it there, and save the file."
        )
    raise KeyRefused("key_not_found", f"There is no key '{key_id[:64]}'.")


def taken_ids(stored: StoredKeys, settings: Settings) -> set[str]:
    """Ids of tenants' keys."""
    return {key.id for key in (*settings.keys, *stored.keys)}
