"""Who may read `/metrics`."""

from config.model.table import Table


class MetricsKey(Table, frozen=True):
    """Made by `penstock keys new --metrics`. It opens `/metrics`, where the figures of all tenants are, and no more."""

    id: str
    hash: str
    """SHA-256 of the whole key, hex."""


class MetricsSettings(Table, frozen=True):
    """`/metrics` shows what all tenants use and spend, so a tenant's key does not open it."""

    keys: tuple[MetricsKey, ...] = ()
    """For the scraper. The keys of the admin API open `/metrics`, too; where nobody needs a key, it is open."""
