"""Checks of the server's address, limits, proxies and origins."""

from pathlib import Path

import msgspec
import pytest

from config.check.server import check_binding, is_loopback
from config.load import load_settings, parse_settings
from config.model.tenancy import KeySettings
from config.problems.errors import ConfigError
from config.profiles import embedded_profile
from gateway.http.bounds.limits import ServerLimits
from tests.actors.configuration import CONFIG


def of(lines: str) -> ServerLimits:
    return ServerLimits.of(parse_settings(f"{CONFIG}\n[server]\n{lines}\n", Path("/nowhere/service.toml")).server)


@pytest.mark.parametrize(
    ("line", "where", "fragment"),
    [
        ('body_memory = "1MiB"', "server.body_memory", "less than max_body"),
        ('body_memory_per_key = "1MiB"', "server.body_memory_per_key", "less than max_body"),
        ('body_memory_per_peer = "1MiB"', "server.body_memory_per_peer", "less than max_body"),
        ('kept_file = ":memory:"', "server.kept_file", "this is the ledger's file"),
        ('responses_file = ":memory:"', "server.responses_file", "another use"),
        ('responses_file = "r.sqlite3"\nkept_file = "r.sqlite3"', "server.responses_file", "another use"),
        ('responses_file = "r.sqlite3"\nkeep_responses = "0s"', "server.responses_file", "as keep_responses is 0"),
        ('kept_file = "kept.sqlite3"\nkeep_answers = "0s"', "server.kept_file", "as keep_answers is 0"),
        ('trusted_proxies = ["10.0.0.7", "proxy.example"]', "server.trusted_proxies[1]", "neither an address nor"),
        ('trusted_proxies = ["10.0.0.0/33"]', "server.trusted_proxies[0]", "neither an address nor"),
        ('ws_origins = ["*"]', "server.ws_origins[0]", "list every origin"),
        (
            'ws_origins = ["https://app.example/"]',
            "server.ws_origins[0]",
            "not an origin in the form",
        ),
        (
            'ws_origins = ["https://App.example"]',
            "server.ws_origins[0]",
            "not an origin in the form",
        ),
        ('ws_origins = ["app.example"]', "server.ws_origins[0]", "not an origin in the form"),
        ('ws_origins = ["https://*.example"]', "server.ws_origins[0]", "not an origin in the form"),
        ('ws_origins = ["null"]', "server.ws_origins[0]", "not an origin in the form"),
        ('ws_origins = ["https://app.example:443"]', "server.ws_origins[0]", "default port"),
        ('ws_origins = ["http://app.example:80"]', "server.ws_origins[0]", "default port"),
        ("connections_per_key = 0", "server.connections_per_key", "at least 1"),
        ("messages_per_second = 1", "server.messages_per_second", "at least 10"),
        ("body_timeout = 5", "server.body_timeout", "duration"),
        ("connection_per_key = 5", "server.connection_per_key", "connections_per_key"),
    ],
)
def test_what_is_refused(line: str, where: str, fragment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(line)
    (problem,) = caught.value.problems
    assert problem.where == where
    assert fragment in str(problem)


def test_valid_origins_and_proxies() -> None:
    of('ws_origins = ["https://app.example", "http://localhost:3000", "http://[::1]:8080", "chrome-extension://abc"]')
    assert of('trusted_proxies = ["10.0.0.0/8", "::1", "192.0.2.7"]').trusted_proxies[1] == "::1"


def test_bounds_that_are_shares_of_the_connections() -> None:
    default = of("")
    limits = (default.max_connections_per_key, default.max_connections_per_peer, default.tier_connections)
    assert limits == (900, 1016, 50)
    few = of("max_connections = 10\nprobe_connections = 0")
    assert (few.max_connections_per_key, few.max_connections_per_peer, few.tier_connections) == (9, 10, 0)
    given = of("connections_per_key = 3\nconnections_per_peer = 4\ntier_connections = 0")
    assert (given.max_connections_per_key, given.max_connections_per_peer, given.tier_connections) == (3, 4, 0)


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
