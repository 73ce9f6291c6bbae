"""API keys: `penstock_<id>_<secret>`. The settings contain only their SHA-256.

The secret has 256 random bits, so that a fast hash is sufficient: it cannot be found by guessing.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable

import msgspec

from config.model.tenancy import KEY_ID, KeySettings

PREFIX = "penstock"
ADMIN_PREFIX = "penstock-admin"
METRICS_PREFIX = "penstock-metrics"
"""The prefixes only help people and secret scanners. What a key permits depends on which list contains its hash."""
RANDOM_BYTES = 38
"""Bytes that `new_key` needs: 6 for the id, 32 for the secret."""

_ID_BYTES = 6
_MAX_KEY_CHARS = 256
_UNKNOWN_KEY = ("", hashlib.sha256(b"").digest())


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


class KeyRing:
    """All keys of the settings. Immutable."""

    def __init__(self, keys: Iterable[KeySettings]) -> None:
        self._by_id = {key.id: (key.tenant, bytes.fromhex(key.hash)) for key in keys}

    def __len__(self) -> int:
        return len(self._by_id)

    def authenticate(self, raw: str) -> str | None:
        """The tenant whose key this is, or None.

        The id is not secret and selects the entry. The hash of the whole key is compared in constant time, for an
        unknown id against a dummy entry, so that response times do not reveal which ids exist.
        """
        parts = raw[:_MAX_KEY_CHARS].split("_", 2)
        key_id = parts[1] if len(parts) == 3 else ""
        tenant, expected = self._by_id.get(key_id, _UNKNOWN_KEY)
        given = hashlib.sha256(raw[:_MAX_KEY_CHARS].encode("utf-8", "surrogatepass")).digest()
        same = hmac.compare_digest(given, expected)
        return tenant if same and tenant and len(raw) <= _MAX_KEY_CHARS else None
