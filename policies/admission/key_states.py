"""All keys of the settings with their state, for operators. No hash is in it."""

from collections.abc import Sequence
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


def key_states(settings: Settings, at: float) -> list[KeyState]:
    """The keys of tenants, operators and scrapers, in the order of the configuration."""
    states = [
        _state(key, "tenant", at, tenant=key.tenant, models=key.models, endpoints=key.endpoints)
        for key in settings.keys
    ]
    states += [_state(key, "admin", at, roles=key.roles) for key in settings.admin.keys]
    return [*states, *(_state(key, "metrics", at) for key in settings.metrics.keys)]


def _state(
    key: KeySettings | AdminKey | MetricsKey,
    kind: Literal["tenant", "admin", "metrics"],
    at: float,
    *,
    tenant: str = "",
    models: Sequence[str] = (),
    endpoints: Sequence[KeyEndpoint] = (),
    roles: Sequence[Role] = (),
) -> KeyState:
    return KeyState(
        id=key.id,
        kind=kind,
        tenant=tenant,
        state="expired" if has_expired(key, at) else "valid",
        expires=None if key.expires is None else write_moment(key.expires),
        expires_in_s=None if key.expires is None else key.expires - at,
        models=tuple(models),
        endpoints=tuple(endpoints),
        roles=tuple(roles),
    )
