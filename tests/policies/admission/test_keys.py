"""API keys: made, hashed and recognised."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model.settings import AdminKey, MetricsKey
from config.model.table import Moment
from config.model.tenancy import KeySettings
from policies.admission.keys import RANDOM_BYTES, KeyGrant, KeyRing, hash_key, new_key, next_id


def tenant_of(ring: KeyRing, raw: str, at: float = 0.0) -> str | None:
    grant = ring.authenticate(raw, at)
    return grant.tenant if isinstance(grant, KeyGrant) else None


def test_only_the_new_key_authenticates() -> None:
    made = new_key("acme", bytes(range(RANDOM_BYTES)))
    ring = KeyRing([made.settings])
    assert tenant_of(ring, made.raw) == "acme"
    assert made.settings.hash == hashlib.sha256(made.raw.encode()).hexdigest() == hash_key(made.raw)
    assert made.raw not in repr(made)
    for wrong in (
        "",
        made.raw[:-1],
        made.raw + "A",
        made.raw.upper(),
        "penstock_" + made.settings.id + "_",
        "é" * 999,
        "\ud800",
    ):
        assert tenant_of(ring, wrong) is None


def test_an_unknown_key_authenticates_no_tenant() -> None:
    empty = KeyRing([])
    assert tenant_of(empty, "") is None
    assert tenant_of(empty, "penstock__") is None
    assert len(empty) == 0


def test_a_key_with_a_suffix_is_another_key() -> None:
    longest = "penstock_x_" + "s" * 245
    ring = KeyRing([KeySettings(id="x", tenant="acme", hash=hash_key(longest))])
    assert tenant_of(ring, longest) == "acme"
    assert tenant_of(ring, longest + "s") is None


def test_a_key_may_have_a_name() -> None:
    made = new_key("acme", bytes(RANDOM_BYTES), key_id="app-1")
    assert made.raw.startswith("penstock_app-1_")
    assert tenant_of(KeyRing([made.settings]), made.raw) == "acme"
    with pytest.raises(ValueError, match="no key id"):
        new_key("acme", bytes(RANDOM_BYTES), key_id="a_b")


def test_keys_need_enough_random_bytes() -> None:
    with pytest.raises(ValueError, match="38 random bytes"):
        new_key("acme", b"short")
    assert new_key("a", bytes(38)).raw != new_key("a", bytes(37) + b"\1").raw


@settings(deadline=None)
@given(st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES))
def test_every_key_is_read_back(random_bytes: bytes) -> None:
    made = new_key("acme", random_bytes)
    assert tenant_of(KeyRing([made.settings]), made.raw) == "acme"


EXPIRIES = [
    # expires, at, what the whole key is
    (None, 9e9, "valid"),
    (100.0, 0.0, "valid"),
    (100.0, 99.999, "valid"),
    (100.0, 100.0, "expired"),
    (100.0, 1e9, "expired"),
]


@pytest.mark.parametrize(("expires", "at", "state"), EXPIRIES)
def test_a_key_expires(expires: float | None, at: float, state: str) -> None:
    raw = "penstock_x_y"
    moment = None if expires is None else Moment(expires)
    for key in (
        KeySettings(id="x", tenant="acme", hash=hash_key(raw), expires=moment),
        AdminKey(id="x", hash=hash_key(raw), expires=moment),
        MetricsKey(id="x", hash=hash_key(raw), expires=moment),
    ):
        grant = KeyRing([key]).authenticate(raw, at)
        assert (grant if isinstance(grant, str) else "valid") == state
        # Who does not have the secret learns nothing about the key.
        assert KeyRing([key]).authenticate("penstock_x_z", at) == "unknown"


MODELS = [
    # models of the key, what is asked for, allowed
    ((), "anything", True),
    (("penstock",), "penstock", True),
    (("penstock",), "penstock:legal", False),
    (("penstock",), "penstock-large", False),
    (("penstock:*",), "penstock:legal", True),
    (("small*", "mini"), "small-2", True),
    (("small*", "mini"), "mini", True),
    (("small*", "mini"), "Mini", False),
    (("small*",), "a small", False),
    (("*",), "anything", True),
    (("a?c",), "abc", False),
    (("a[bc]",), "ab", False),
    (("a[bc]",), "a[bc]", True),
]


@pytest.mark.parametrize(("models", "asked", "allowed"), MODELS)
def test_the_models_of_a_key(models: tuple[str, ...], asked: str, allowed: bool) -> None:
    assert KeyGrant("acme", models=models).permits_model(asked) is allowed


def test_the_endpoints_and_roles_of_a_key() -> None:
    assert KeyGrant("acme").permits_endpoint("chat")
    assert KeyGrant("acme", endpoints=("embeddings",)).permits_endpoint("embeddings")
    assert not KeyGrant("acme", endpoints=("embeddings",)).permits_endpoint("chat")
    key = AdminKey(id="x", hash=hash_key("a_x_y"), roles=("read",))
    assert KeyRing([key]).authenticate("a_x_y", 0.0) == KeyGrant("", "x", roles=("read",))


IDS = [
    ("app", [], "app-2"),
    ("app", ["app", "app-2", "app-3"], "app-4"),
    ("app-2", ["app-2"], "app-3"),
    ("web-1-b", [], "web-1-b-2"),
    ("a" * 64, [], "a" * 62 + "-2"),
    ("app-99999", [], "app-99999-2"),
]


@pytest.mark.parametrize(("key_id", "taken", "following"), IDS)
def test_the_key_after_a_key(key_id: str, taken: list[str], following: str) -> None:
    assert next_id(key_id, taken) == following
