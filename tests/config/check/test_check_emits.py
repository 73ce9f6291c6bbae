"""The `emit` of cascades, and of routes that replace it."""

from pathlib import Path

import pytest

from config.load import parse_settings
from config.problems.errors import ConfigError

TEXT = """\
schema = 1
[engines.small]
model = "s"
[engines.large]
model = "l"
[models.chat]
[tiers.default]
[[routes]]
name = "chat"
use = { cascade = "thrifty" }
ROUTE
[cascades.thrifty]
stages = ["small", "large"]
on_failure = "safe"
CASCADE
[[ladders.safe]]
to = "large"
"""


def problems(route: str, cascade: str) -> list[str]:
    text = TEXT.replace("ROUTE", route).replace("CASCADE", cascade)
    try:
        parse_settings(text, Path("/etc/x.toml"))
    except ConfigError as error:
        return [f"{problem.where}: {problem.message}" for problem in error.problems]
    return []


@pytest.mark.parametrize("mode", ["gate", "window", "verified"])
def test_a_route_may_set_the_mode(mode: str) -> None:
    assert problems(f'emit = {{ mode = "{mode}" }}', "defer = { threshold = 1.0 }") == []


def test_a_route_cannot_gate_a_cascade_without_a_deferral_rule() -> None:
    found = problems('emit = { mode = "gate" }', 'emit = { mode = "verified" }')
    assert found == ["routes[0].emit.mode: no threshold decides when the small answer of 'thrifty' is escalated"]


def test_a_route_with_a_ladder_has_no_emit() -> None:
    text = TEXT.replace('use = { cascade = "thrifty" }', 'use = { ladder = "safe" }')
    text = text.replace("ROUTE", 'emit = { mode = "gate" }').replace("CASCADE", "defer = { threshold = 1.0 }")
    with pytest.raises(ConfigError, match="only the answers of a cascade have an emit mode"):
        parse_settings(text, Path("/etc/x.toml"))
