"""API keys: `penstock_<id>_<secret>`, of which the settings keep a SHA-256 only.

The secret has 256 random bits, so that a fast hash is enough: there is nothing to guess.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable

import msgspec

from config.model.tenancy import KeySettings

PREFIX = "penstock"
ADMIN_PREFIX = "penstock-admin"
METRICS_PREFIX = "penstock-metrics"
"""So that people and secret scanners tell the classes apart; what a key opens depends on which list holds its hash."""
RANDOM_BYTES = 38
"""`new_key` wants this many: six make the id, thirty-two the secret."""

_ID_BYTES = 6
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_LONGEST_KEY = 256
_NOBODY = ("", hashlib.sha256(b"").digest())


class NewKey(msgspec.Struct, frozen=True):
    """A key at the only moment at which its secret is known."""

    raw: str
    """Goes to its owner, and nowhere else."""
    settings: KeySettings
    """Goes into the TOML file."""

    def __repr__(self) -> str:
        return f"NewKey(raw=<secret>, settings={self.settings!r})"


def hash_key(raw: str) -> str:
    """What the settings keep of a key: SHA-256 of all of it, in hex."""
    return hashlib.sha256(raw.encode()).hexdigest()


def new_key(tenant: str, random_bytes: bytes, key_id: str | None = None, *, prefix: str = PREFIX) -> NewKey:
    """A key for a tenant out of `RANDOM_BYTES` bytes of `secrets.token_bytes`; ValueError if there are fewer.

    `key_id` names it (letters, digits, hyphens); without one it is random.
    """
    if len(random_bytes) < RANDOM_BYTES:
        raise ValueError(f"a key needs {RANDOM_BYTES} random bytes, got {len(random_bytes)}")
    if key_id is None:
        key_id = random_bytes[:_ID_BYTES].hex()
    elif not _ID.fullmatch(key_id):
        raise ValueError(f"{key_id!r} is no key id: 1 to 64 letters, digits or hyphens")
    secret = base64.urlsafe_b64encode(random_bytes[_ID_BYTES:RANDOM_BYTES]).decode().rstrip("=")
    raw = f"{prefix}_{key_id}_{secret}"
    return NewKey(raw, KeySettings(id=key_id, tenant=tenant, hash=hash_key(raw)))


class KeyRing:
    """All keys. Immutable, so it may be shared."""

    def __init__(self, keys: Iterable[KeySettings]) -> None:
        self._by_id = {key.id: (key.tenant, bytes.fromhex(key.hash)) for key in keys}

    def __len__(self) -> int:
        return len(self._by_id)

    def authenticate(self, raw: str) -> str | None:
        """The tenant whose key this is, or None.

        The id is no secret and picks the entry; the whole key's hash is compared in constant time, on a miss against
        an entry of nobody's, so that time does not tell whether an id exists.
        """
        parts = raw[:_LONGEST_KEY].split("_", 2)
        key_id = parts[1] if len(parts) == 3 else ""
        tenant, expected = self._by_id.get(key_id, _NOBODY)
        given = hashlib.sha256(raw[:_LONGEST_KEY].encode("utf-8", "surrogatepass")).digest()
        same = hmac.compare_digest(given, expected)
        return tenant if same and tenant and len(raw) <= _LONGEST_KEY else None
