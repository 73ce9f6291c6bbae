"""The admin API: where it listens, who may use it, and what is kept for it."""

from config.model.table import Bytes, Table


class AdminKey(Table, frozen=True):
    """Made by `penstock keys new --admin`. It opens `/metrics`, too, and no other key opens the admin API."""

    id: str
    hash: str
    """SHA-256 of the whole key, hex."""


class AdminSettings(Table, frozen=True):
    """It listens apart from the API that clients use."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = 8081
    """0 takes a free one."""
    keys: tuple[AdminKey, ...] = ()
    """No keys: on loopback only, and not for pages of other sites."""
    decisions: int = 10_000
    """The last decision records that are kept, for `penstock policy explain --id`."""
    decisions_memory: Bytes = Bytes(32 * 2**20)
    """What they may take up together."""
