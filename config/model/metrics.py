"""Settings of `/metrics`."""

from config.model.table import Table


class MetricsKey(Table, frozen=True):
    """A key for `/metrics` only, made by `penstock keys new --metrics`."""

    id: str
    hash: str
    """SHA-256 of the whole key, hex."""


class MetricsSettings(Table, frozen=True):
    """Access to `/metrics`. It shows usage and spending of all tenants, so tenants' keys give no access."""

    keys: tuple[MetricsKey, ...] = ()
    """Keys for scrapers. Keys of the admin API give access as well. If there are neither these keys nor tenants' keys,
    no key is needed."""
