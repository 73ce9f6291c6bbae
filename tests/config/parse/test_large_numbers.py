"""Whole numbers and sizes beyond 64 bits are refused wherever they stand: no other process could read them."""

from pathlib import Path

import pytest

from config.load import parse_settings
from config.problems.errors import ConfigError
from tests.config.test_load import GOOD

LARGE = "99999999999999999999"
EXPERIMENT = """
[[experiments]]
name = "e"
route = ["rest"]
arms = { control = 50, b = 50 }
"""


@pytest.mark.parametrize(
    "more",
    [
        f"[tiers.more]\npriority = {LARGE}",
        f"[tiers.more]\npriority = -{LARGE}",
        f"[tiers.more]\nqueue.requests = {LARGE}",
        f"[tenants.acme]\ntier = 'default'\ntokens = {{ per_minute = {LARGE} }}",
        f"[tenants.acme]\ntier = 'default'\nweight = {LARGE}",
        f"[tenants.acme]\ntier = 'default'\nweight = 1{'0' * 400}",
        f"[server]\nmax_body = '{LARGE}GiB'",
        f"[signals.x]\nprompt_tokens = {{ at_least = {LARGE} }}",
        f"{EXPERIMENT}override.b = {{ 'routes.rest.caps.output_tokens' = {LARGE} }}",
        f"{EXPERIMENT}override.b = {{ 'cascades.thrifty.emit' = {{ window = {LARGE} }} }}",
    ],
)
def test_a_number_beyond_64_bits_is_too_large(more: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_settings(f"{GOOD}{more}\n", Path("/etc/x.toml"))
    assert [problem.message.endswith("is too large") for problem in raised.value.problems] == [True]
    assert len(raised.value.problems[0].message) < 200


def test_the_largest_number_is_read() -> None:
    settings = parse_settings(f"{GOOD}[tiers.more]\npriority = {2**63 - 1}\n", Path("/etc/x.toml"))
    assert settings.tiers["more"].priority == 2**63 - 1
