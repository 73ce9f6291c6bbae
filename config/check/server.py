"""Checks the limits of the server, and its lists of proxies and origins."""

import ipaddress
import re

from config.model.settings import Settings
from config.problems.problems import Problems

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@*A-Z]+")
_DEFAULT_PORTS = (("http://", ":80"), ("https://", ":443"))


def check_server(settings: Settings, problems: Problems) -> None:
    """Check that memory limits allow a body of `max_body`, and that proxies and origins are well-formed."""
    server = settings.server
    for name in ("body_memory", "body_memory_per_key", "body_memory_per_peer"):
        if getattr(server, name) < server.max_body:
            problems.add(
                ("server", name),
                f"{name} ({getattr(server, name)} bytes) is less than max_body ({server.max_body}): no body of that "
                "size could ever be read",
                expected="at least max_body",
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
        message = "'*' is no origin: each one that may use the server must be named"
    elif not _ORIGIN.fullmatch(origin):
        message = f"'{origin}' is no origin as browsers send it"
    elif ports:
        message = f"browsers leave the default port out: '{origin}' would never match"
    else:
        return
    problems.add(
        ("server", "ws_origins", index),
        message,
        expected='scheme and host in lower case, and a port if it is not the default: "https://app.example"',
    )
