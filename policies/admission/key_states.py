"""All keys of the settings with their state, for operators. No hash is in it."""

from typing import Literal

import msgspec

from config.model.settings import AdminKey, MetricsKey, Role, Settings
from config.model.tenancy import KeyEndpoint, KeySettings
from config.model.units import write_moment
from policies.admission.keys import has_expired


class KeyState(msgspec.Struct, frozen=True, kw_only=True):
    """One key."""

    id: str
    kind: Literal["tenant", "admin", "metrics"]
    tenant: str = ""
    state: Literal["valid", "expired"]
    expires: str | None = None
    """UTC."""
    expires_in_s: float | None = None
    """Negative: it expired so long ago. None: it never expires."""
    models: tuple[str, ...] = ()
    endpoints: tuple[KeyEndpoint, ...] = ()
    roles: tuple[Role, ...] = ()
    stored: bool = False
    """In the keys file: the admin API may replace and revoke it."""


def key_states(settings: Settings, at: float) -> list[KeyState]:
    """The keys of tenants, operators and scrapers, in the order of the configuration, and of the keys file."""
    states = [key_state(key, at) for key in settings.keys]
    states += [key_state(key, at, stored=True) for key in settings.stored_keys]
    states += [key_state(key, at) for key in settings.admin.keys]
    return [*states, *(key_state(key, at) for key in settings.metrics.keys)]


def key_state(key: KeySettings | AdminKey | MetricsKey, at: float, *, stored: bool = False) -> KeyState:
    """One key at `at`, seconds since 1970."""
    state = KeyState(
        id=key.id,
        kind="metrics",
        state="expired" if has_expired(key, at) else "valid",
        expires=None if key.expires is None else write_moment(key.expires),
        expires_in_s=None if key.expires is None else key.expires - at,
        stored=stored,
    )
    match key:
        case KeySettings(tenant=tenant, models=models, endpoints=endpoints):
            return msgspec.structs.replace(state, kind="tenant", tenant=tenant, models=models, endpoints=endpoints)
        case AdminKey(roles=roles):
            return msgspec.structs.replace(state, kind="admin", roles=roles)
    return state
