"""What the rules say of a key before its request is read."""

from pathlib import Path

import pytest

from actors.api.errors import BadKey
from actors.routing.router import PolicySnapshot
from config.load import parse_settings
from policies.admission.keys import new_key
from tests.actors.configuration import CONFIG

KEYS = {name: new_key(name, bytes([number]) * 38, name) for number, name in enumerate(("low", "same", "mid", "top"))}
TENANTS = """
[tiers.batch]
priority = 0
[tiers.usual]
priority = 5
[tiers.urgent]
priority = 10
[tiers.nobodys]
priority = 99
"""


def ranks_of(snapshot: PolicySnapshot, key: str | None) -> int:
    return snapshot.ranks[snapshot.grant_of(key, 0.0).tenant]


def test_how_many_tiers_come_before_a_key() -> None:
    text = CONFIG + TENANTS
    for (name, key), tier in zip(KEYS.items(), ("default", "batch", "usual", "urgent"), strict=True):
        text += f'[tenants.{name}]\ntier = "{tier}"\n'
        text += f'[[keys]]\nid = "{name}"\ntenant = "{name}"\nhash = "{key.settings.hash}"\n'
    snapshot = PolicySnapshot.of(parse_settings(text, Path("/nowhere/service.toml")), {})
    # Equal priorities are one class, and a tier that no tenant has needs no places.
    assert [ranks_of(snapshot, key.raw) for key in KEYS.values()] == [2, 2, 1, 0]
    for wrong in (None, "penstock_x_y"):
        with pytest.raises(BadKey):
            ranks_of(snapshot, wrong)


def test_without_keys_nobody_comes_before() -> None:
    snapshot = PolicySnapshot.of(parse_settings(CONFIG, Path("/nowhere/service.toml")), {})
    assert ranks_of(snapshot, None) == 0
