"""API keys: `penstock_<id>_<secret>`. The settings contain only their SHA-256.

The secret has 256 random bits, so that a fast hash is sufficient: it cannot be found by guessing.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from config.model.settings import AdminKey, MetricsKey, Role
from config.model.tenancy import KEY_ID, KeyEndpoint, KeySettings
from config.model.wildcard import fits

PREFIX = "penstock"
ADMIN_PREFIX = "penstock-admin"
METRICS_PREFIX = "penstock-metrics"
"""The prefixes only help people and secret scanners. What a key permits depends on which list contains its hash."""
RANDOM_BYTES = 38
"""Bytes that `new_key` needs: 6 for the id, 32 for the secret."""

_ID_BYTES = 6
_MAX_KEY_CHARS = 256
_UNKNOWN_KEY = (None, hashlib.sha256(b"").digest())
_FAMILY = re.compile(r"(.+?)(?:-([0-9]{1,4}))?")
_MAX_ID_CHARS = 64


class NewKey(msgspec.Struct, frozen=True):
    """A new key with its secret, which is not stored."""

    raw: str
    """The key itself, for its owner only."""
    settings: KeySettings
    """The entry for the TOML file."""

    def __repr__(self) -> str:
        return f"NewKey(raw=<secret>, settings={self.settings!r})"


def hash_key(raw: str) -> str:
    """SHA-256 of the whole key, in hex, as in the settings."""
    return hashlib.sha256(raw.encode()).hexdigest()


def new_key(tenant: str, random_bytes: bytes, key_id: str | None = None, *, prefix: str = PREFIX) -> NewKey:
    """A key for a tenant, made from `RANDOM_BYTES` bytes of `secrets.token_bytes`.

    `key_id` is 1 to 64 letters, digits and hyphens; None: random. ValueError for another `key_id` or too few bytes.
    """
    if len(random_bytes) < RANDOM_BYTES:
        raise ValueError(f"a key needs {RANDOM_BYTES} random bytes, got {len(random_bytes)}")
    if key_id is None:
        key_id = random_bytes[:_ID_BYTES].hex()
    elif not KEY_ID.fullmatch(key_id):
        raise ValueError(f"{key_id!r} is no key id: 1 to 64 letters, digits or hyphens")
    secret = base64.urlsafe_b64encode(random_bytes[_ID_BYTES:RANDOM_BYTES]).decode().rstrip("=")
    raw = f"{prefix}_{key_id}_{secret}"
    return NewKey(raw, KeySettings(id=key_id, tenant=tenant, hash=hash_key(raw)))


def next_id(key_id: str, taken: Collection[str]) -> str:
    """The id of the key that replaces this one: "app" is followed by "app-2", then "app-3"; never one of `taken`."""
    found = _FAMILY.fullmatch(key_id)
    name, number = (found[1], int(found[2] or 1)) if found is not None else (key_id, 1)
    while True:
        number += 1
        following = f"{name[: _MAX_ID_CHARS - len(str(number)) - 1]}-{number}"
        if following not in taken:
            return following


class KeyGrant(msgspec.Struct, frozen=True):
    """What a valid key permits."""

    tenant: str
    """Empty for keys of operators and scrapers."""
    id: str = ""
    """Empty where no key is needed."""
    models: tuple[str, ...] = ()
    """Names and wildcards; empty: all."""
    endpoints: tuple[KeyEndpoint, ...] = ()
    """Empty: all."""
    roles: tuple[Role, ...] = ()
    """In the admin API."""

    def permits_model(self, requested: str) -> bool:
        """Whether a request may have this as its `model`: a name, or NAME:ADAPTER."""
        return not self.models or any(fits(requested, each) for each in self.models)

    def permits_endpoint(self, endpoint: str) -> bool:
        return not self.endpoints or endpoint in self.endpoints


class KeyRing:
    """All keys of one list of the settings. Immutable."""

    def __init__(self, keys: Iterable[KeySettings | AdminKey | MetricsKey]) -> None:
        self._by_id = {key.id: (key, bytes.fromhex(key.hash)) for key in keys}
        self._grants = {name: _grant(key) for name, (key, _) in self._by_id.items()}

    def __len__(self) -> int:
        return len(self._by_id)

    def authenticate(self, raw: str, at: float) -> KeyGrant | Literal["unknown", "expired"]:
        """What the key permits at `at` (seconds since 1970).

        The id is not secret and selects the entry. The hash of the whole key is compared in constant time, for an
        unknown id against a dummy entry, so that response times do not reveal which ids exist. Only who has the whole
        key learns that it has expired.
        """
        read = raw[:_MAX_KEY_CHARS]
        parts = read.split("_", 2)
        key_id = parts[1] if len(parts) == 3 else ""
        key, expected = self._by_id.get(key_id, _UNKNOWN_KEY)
        given = hashlib.sha256(read.encode("utf-8", "surrogatepass")).digest()
        same = hmac.compare_digest(given, expected)
        if not same or key is None or read != raw:
            return "unknown"
        return "expired" if has_expired(key, at) else self._grants[key_id]


def has_expired(key: KeySettings | AdminKey | MetricsKey, at: float) -> bool:
    """Whether the key's time is over at `at`, seconds since 1970."""
    return key.expires is not None and at >= key.expires


def _grant(key: KeySettings | AdminKey | MetricsKey) -> KeyGrant:
    match key:
        case KeySettings():
            return KeyGrant(key.tenant, key.id, key.models, key.endpoints)
        case AdminKey():
            return KeyGrant("", key.id, roles=key.roles)
    return KeyGrant("", key.id)
