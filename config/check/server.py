"""Checks the server's address, its limits, and its lists of proxies and origins."""

import ipaddress
import re
from pathlib import Path

from config.model.settings import Settings
from config.problems.errors import ConfigError, Problem
from config.problems.problems import Problems

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@*A-Z]+")
_BINDING = "a loopback address such as 127.0.0.1, or keys (make one with `penstock keys new`)"
ADMIN_BINDING = "a loopback address such as 127.0.0.1, or keys (make one with `penstock keys new --admin`)"
_DEFAULT_PORTS = (("http://", ":80"), ("https://", ":443"))


def check_server(settings: Settings, problems: Problems) -> None:
    server = settings.server
    if message := _exposure(settings, server.host):
        problems.add(("server", "host"), message, expected=_BINDING)
    for name in ("body_memory", "body_memory_per_key", "body_memory_per_peer"):
        if getattr(server, name) < server.max_body:
            problems.add(
                ("server", name),
                f"{name} ({getattr(server, name)} bytes) is less than max_body ({server.max_body}): a body of "
                "that size is always refused",
                expected="at least max_body",
            )
    if server.kept_file is not None and server.kept_file == settings.ledger.path:
        problems.add(("server", "kept_file"), "this is the ledger's file", expected="a file of its own")
    if server.kept_file is not None and not server.keep_answers:
        problems.add(
            ("server", "kept_file"),
            "nothing is written to it, as keep_answers is 0",
            expected='keep_answers = "60s", for example, or no kept_file',
        )
    if server.responses_file is not None and server.responses_file in {settings.ledger.path, server.kept_file}:
        problems.add(("server", "responses_file"), "this file has another use", expected="a file of its own")
    if server.responses_file is not None and not server.keep_responses:
        problems.add(
            ("server", "responses_file"),
            "nothing is written to it, as keep_responses is 0",
            expected='keep_responses = "30d", for example, or no responses_file',
        )
    for index, proxy in enumerate(server.trusted_proxies):
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            problems.add(
                ("server", "trusted_proxies", index),
                f"'{proxy}' is neither an address nor a network",
                expected='such as "10.0.0.7" or "10.0.0.0/8"',
            )
    for index, origin in enumerate(server.ws_origins):
        _check_origin(index, origin, problems)


def _check_origin(index: int, origin: str, problems: Problems) -> None:
    """Browsers send an origin in one form only; one that is written in another way would never match."""
    ports = [port for scheme, port in _DEFAULT_PORTS if origin.startswith(scheme) and origin.endswith(port)]
    if origin == "*":
        message = "'*' is not an origin: list every origin that may use the server"
    elif not _ORIGIN.fullmatch(origin):
        message = f"'{origin}' is not an origin in the form that browsers send"
    elif ports:
        message = f"browsers omit the default port: '{origin}' would never match"
    else:
        return
    problems.add(
        ("server", "ws_origins", index),
        message,
        expected='scheme and host in lower case, and a port if it is not the default: "https://app.example"',
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect. Host names are not resolved: any but localhost counts as reachable."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_binding(settings: Settings, host: str, given_as: str = "--host") -> None:
    """Raise `ConfigError` if other machines can connect to `host`, and the settings have no keys."""
    if message := _exposure(settings, host):
        raise ConfigError([Problem(file=Path(given_as), where="server.host", message=message, expected=_BINDING)])


def check_admin_binding(settings: Settings, host: str, given_as: str) -> None:
    """Raise `ConfigError` if other machines can connect to the admin API's `host`, and it has no keys."""
    if message := admin_exposure(settings, host):
        raise ConfigError([Problem(file=Path(given_as), where="admin.host", message=message, expected=ADMIN_BINDING)])


def admin_exposure(settings: Settings, host: str) -> str:
    if settings.admin.keys or is_loopback(host):
        return ""
    return f"'{host}' can be reached from other machines, and there are no [[admin.keys]]"


def _exposure(settings: Settings, host: str) -> str:
    if settings.keyed or is_loopback(host):
        return ""
    return f"'{host}' can be reached from other machines, and the configuration has no [[keys]]"
