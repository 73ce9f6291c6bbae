"""API keys: made, hashed and recognised."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model.tenancy import KeySettings
from policies.admission.keys import RANDOM_BYTES, KeyRing, hash_key, new_key


def test_only_the_new_key_authenticates() -> None:
    made = new_key("acme", bytes(range(RANDOM_BYTES)))
    ring = KeyRing([made.settings])
    assert ring.authenticate(made.raw) == "acme"
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
        assert ring.authenticate(wrong) is None


def test_an_unknown_key_authenticates_no_tenant() -> None:
    empty = KeyRing([])
    assert empty.authenticate("") is None
    assert empty.authenticate("penstock__") is None
    assert len(empty) == 0
    assert KeyRing([KeySettings(id="x", tenant="", hash=hash_key("penstock_x_y"))]).authenticate("penstock_x_y") is None


def test_a_key_with_a_suffix_is_another_key() -> None:
    longest = "penstock_x_" + "s" * 245
    ring = KeyRing([KeySettings(id="x", tenant="acme", hash=hash_key(longest))])
    assert ring.authenticate(longest) == "acme"
    assert ring.authenticate(longest + "s") is None


def test_a_key_may_have_a_name() -> None:
    made = new_key("acme", bytes(RANDOM_BYTES), key_id="app-1")
    assert made.raw.startswith("penstock_app-1_")
    assert KeyRing([made.settings]).authenticate(made.raw) == "acme"
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
    assert KeyRing([made.settings]).authenticate(made.raw) == "acme"
