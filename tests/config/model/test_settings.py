"""What follows from the settings of keys, in the configuration and in the keys file together."""

from pathlib import Path

import msgspec
import pytest

from config.model.settings import AdminSettings
from config.model.tenancy import KeySettings, StoredKeys, TenantSettings
from tests.actors.configuration import settings_of

KEY = KeySettings(id="a", tenant="acme", hash="0" * 64)


@pytest.mark.parametrize(
    ("keys", "keys_file", "keyed"),
    [((), None, False), ((KEY,), None, True), ((), Path("/k.toml"), True), ((KEY,), Path("/k.toml"), True)],
)
def test_when_every_client_needs_a_key(keys: tuple[KeySettings, ...], keys_file: Path | None, keyed: bool) -> None:
    settings = msgspec.structs.replace(settings_of(), keys=keys, admin=AdminSettings(keys_file=keys_file))
    assert settings.keyed is keyed


def test_stored_keys_are_those_of_tenants() -> None:
    stored = StoredKeys((KEY, msgspec.structs.replace(KEY, id="b", tenant="gone")))
    settings = msgspec.structs.replace(settings_of(), tenants={"acme": TenantSettings()})
    assert settings.stored_keys == ()
    filled = msgspec.structs.replace(settings, admin=AdminSettings(keys_file=Path("/k.toml"), stored=stored))
    assert filled.stored_keys == (KEY,)
