"""The admin API cannot listen on the network without its own keys."""

from pathlib import Path

import pytest

from config.load import parse_settings
from config.problems.errors import ConfigError
from tests.actors.configuration import CONFIG

HASH = "0" * 64
SAME = f'[[keys]]\nid = "b"\ntenant = "t"\nhash = "{HASH}"\n[tenants.t]'


@pytest.mark.parametrize(
    ("table", "where", "fragment"),
    [
        ('[admin]\nenabled = true\nhost = "0.0.0.0"', "admin.host", "no [[admin.keys]]"),
        ("[admin]\nenabled = true\nport = 8080", "admin.port", "listens on port 8080 already"),
        (f'[[admin.keys]]\nid = "a b"\nhash = "{HASH}"', "admin.keys[0].id", "is not a key id"),
        ('[[admin.keys]]\nid = "a"\nhash = "xyz"', "admin.keys[0].hash", "not the SHA-256"),
        (
            f'[[admin.keys]]\nid = "a"\nhash = "{HASH}"\n{SAME}',
            "admin.keys[0].hash",
            "given twice",
        ),
        (
            f'[[admin.keys]]\nid = "a"\nhash = "{HASH}"\n[[admin.keys]]\nid = "a"\nhash = "{"1" * 64}"',
            "admin.keys[1].id",
            "given twice",
        ),
        (f'[[metrics.keys]]\nid = "a b"\nhash = "{HASH}"', "metrics.keys[0].id", "is not a key id"),
        ('[[metrics.keys]]\nid = "a"\nhash = "xyz"', "metrics.keys[0].hash", "penstock keys new --metrics"),
        (f'[[metrics.keys]]\nid = "a"\nhash = "{HASH}"\n{SAME}', "metrics.keys[0].hash", "given twice"),
        (
            f'[[admin.keys]]\nid = "a"\nhash = "{HASH}"\n[[metrics.keys]]\nid = "a"\nhash = "{HASH}"',
            "metrics.keys[0].hash",
            "given twice",
        ),
        (f'[[admin.keys]]\nid = "a"\nhash = "{HASH}"\nroles = []', "admin.keys[0].roles", "at least one role"),
        (f'[[admin.keys]]\nid = "a"\nhash = "{HASH}"\nroles = ["root"]', "admin.keys[0].roles[0]", "read"),
        (f'[[admin.keys]]\nid = "a"\nhash = "{HASH}"\nexpires = 5', "admin.keys[0].expires", "2027-01-31T00:00:00Z"),
        (
            SAME.replace("[tenants", "expires = 2027-01-31\n[tenants"),
            "keys[0].expires",
            'write "2027-01-31T00:00:00Z"',
        ),
        (
            SAME.replace("[tenants", "expires = 2027-01-31T10:00:00\n[tenants"),
            "keys[0].expires",
            'write "2027-01-31T10:00:00Z"',
        ),
        (SAME.replace("[tenants", 'models = ["samll"]\n[tenants'), "keys[0].models[0]", "small"),
        (SAME.replace("[tenants", 'models = ["x*:y"]\n[tenants'), "keys[0].models[0]", "x*:y"),
        (SAME.replace("[tenants", 'endpoints = ["chats"]\n[tenants'), "keys[0].endpoints[0]", "chat"),
    ],
)
def test_what_is_refused(table: str, where: str, fragment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(f"{CONFIG}\n{table}\n", Path("/nowhere/service.toml"))
    (problem,) = caught.value.problems
    assert problem.where == where
    assert fragment in str(problem)


def test_a_key_with_a_scope_and_a_time() -> None:
    scope = 'models = ["small", "lar*:legal"]\nendpoints = ["chat"]\nexpires = 1970-01-01T01:00:10+01:00\n'
    text = CONFIG + SAME.replace("[tenants", scope + "[tenants")
    (key,) = parse_settings(text, Path("/nowhere/service.toml")).keys
    assert (key.models, key.endpoints, key.expires) == (("small", "lar*:legal"), ("chat",), 10.0)


def test_what_is_served() -> None:
    table = f'[admin]\nenabled = true\nhost = "0.0.0.0"\n[[admin.keys]]\nid = "a"\nhash = "{HASH}"\n'
    assert parse_settings(CONFIG + table, Path("/nowhere/service.toml")).admin.keys[0].id == "a"
    # An admin API that is not enabled needs no keys.
    assert not parse_settings(CONFIG + '[admin]\nhost = "0.0.0.0"\n', Path("/nowhere/service.toml")).admin.enabled
