"""What becomes of the keys when one is made, replaced or revoked."""

import msgspec
import pytest

from config.model.settings import AdminKey, Settings
from config.model.table import Moment
from config.model.tenancy import KeySettings, StoredKeys, TenantSettings
from policies.admission.key_changes import MOST_KEYS, Replacement, added, found, replaced, replacement, revoked
from policies.admission.keys import ADMIN_PREFIX, PREFIX, KeyRing
from policies.errors import KeyRefused
from tests.actors.configuration import settings_of

OLD = KeySettings(id="app", tenant="acme", hash="0" * 64, models=("small",), endpoints=("chat",))
IN_FILE = KeySettings(id="toml", tenant="acme", hash="1" * 64)
STORED = StoredKeys((OLD,))


def settings() -> Settings:
    return msgspec.structs.replace(settings_of(), keys=(IN_FILE,), tenants={"acme": TenantSettings()})


def successor(old: KeySettings = OLD, *, overlap_s: float = 100.0, expires: Moment | None = None) -> Replacement:
    return replacement(old, {"app", "toml"}, bytes(38), prefix=PREFIX, now=1000.0, overlap_s=overlap_s, expires=expires)


def test_a_successor_may_do_the_same_and_both_are_valid_for_a_while() -> None:
    by = successor(expires=Moment(5000.0))
    keys = replaced(STORED, by, "app", settings()).keys
    assert keys == (
        msgspec.structs.replace(OLD, expires=1100.0),
        msgspec.structs.replace(OLD, id="app-2", hash=by.hash, expires=5000.0),
    )
    ring = KeyRing(keys)
    assert [getattr(ring.authenticate(by.raw, at), "id", "expired") for at in (1000.0, 5000.0)] == ["app-2", "expired"]
    assert by.raw not in repr(by)


@pytest.mark.parametrize(
    ("expires", "overlap_s", "until"), [(None, 0.0, 1000.0), (1050.0, 100.0, 1050.0), (900.0, 100.0, 900.0)]
)
def test_no_overlap_makes_a_key_valid_for_longer(expires: float | None, overlap_s: float, until: float) -> None:
    old = msgspec.structs.replace(OLD, expires=None if expires is None else Moment(expires))
    by = successor(old, overlap_s=overlap_s)
    assert by.ended(old).expires == until


def test_a_key_of_the_admin_api_keeps_its_roles() -> None:
    old = AdminKey(id="ops", hash="0" * 64, roles=("read",))
    by = replacement(old, {"ops"}, bytes(38), prefix=ADMIN_PREFIX, now=0.0, overlap_s=1.0, expires=None)
    assert by.raw.startswith("penstock-admin_ops-2_")
    assert (by.new(old).roles, by.ended(old)) == (
        ("read",),
        AdminKey(id="ops", hash="0" * 64, roles=("read",), expires=Moment(1.0)),
    )


def test_a_revoked_key_is_gone() -> None:
    assert revoked(STORED, "app", settings()) == StoredKeys()
    assert found(STORED, "app", settings()) is OLD


def with_(**given: object) -> KeySettings:
    return msgspec.structs.replace(OLD, **{"id": "new", **given})


REFUSED = {
    "an id of the file": (lambda: added(STORED, with_(id="app"), settings()), "key_exists"),
    "an id of the configuration": (lambda: added(STORED, with_(id="toml"), settings()), "key_exists"),
    "no such tenant": (lambda: added(STORED, with_(tenant="x"), settings()), "tenant_not_found"),
    "no such model": (lambda: added(STORED, with_(models=("smoll",)), settings()), "model_not_found"),
    "too many": (lambda: added(StoredKeys((OLD,) * MOST_KEYS), with_(), settings()), "too_many_keys"),
    "another's successor": (lambda: replaced(STORED, successor(), "x", settings()), "key_not_found"),
    "one of the configuration": (lambda: replaced(STORED, successor(), "toml", settings()), "key_in_configuration"),
    "to revoke none": (lambda: revoked(STORED, "x", settings()), "key_not_found"),
    "to revoke one of the configuration": (lambda: revoked(STORED, "toml", settings()), "key_in_configuration"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    change, code = REFUSED[name]
    with pytest.raises(KeyRefused) as caught:
        change()
    assert caught.value.code == code


def test_adapters_of_a_model_may_be_named() -> None:
    key = with_(models=("small:legal", "lar*:*"))
    assert added(STORED, key, settings()).keys == (OLD, key)
