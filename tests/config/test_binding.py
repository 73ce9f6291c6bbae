"""Without keys only loopback addresses are accepted."""

from pathlib import Path

import msgspec
import pytest

from config.binding import check_binding, is_loopback
from config.load import load_settings
from config.model.tenancy import KeySettings
from config.problems.errors import ConfigError
from config.profiles import embedded_profile


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST."])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    check_binding(load_settings(embedded_profile()), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.1.example.org"])
def test_anything_else_needs_keys(host: str) -> None:
    settings = load_settings(embedded_profile())
    with pytest.raises(ConfigError, match=r"--host: server\.host: .* has no \[\[keys\]\]"):
        check_binding(settings, host)
    with_key = msgspec.structs.replace(settings, keys=(KeySettings(id="a", tenant="t", hash="0" * 64),))
    check_binding(with_key, host)


def test_the_problem_names_the_file_it_was_given() -> None:
    with pytest.raises(ConfigError) as caught:
        check_binding(load_settings(embedded_profile()), "0.0.0.0", file=Path("x.toml"), line=3, column=8)
    assert str(caught.value).startswith("x.toml:3:8: server.host: ")
