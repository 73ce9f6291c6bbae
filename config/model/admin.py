"""Settings of the admin API."""

from config.model.bounds import Natural, Port
from config.model.table import Bytes, NonNegativeBytes, Table


class AdminKey(Table, frozen=True):
    """A key for the admin API, made by `penstock keys new --admin`. It also gives access to `/metrics`."""

    id: str
    hash: str
    """SHA-256 of the whole key, hex."""


class AdminSettings(Table, frozen=True):
    """The admin API. It has its own address, apart from the API for clients."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Port = 8081
    """0: any free port."""
    keys: tuple[AdminKey, ...] = ()
    """Without keys the admin API is available on loopback only, and not to web pages of other origins."""
    decisions: Natural = 10_000
    """Number of recent decision records that are kept, for `penstock policy explain --id`."""
    decisions_memory: NonNegativeBytes = Bytes(32 * 2**20)
    """Limit on the memory of the decision records."""
