"""Checks the address that the server listens on: without API keys only loopback addresses are allowed."""

import ipaddress
from pathlib import Path

from config.model.settings import Settings
from config.problems.errors import ConfigError, Problem


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect. Host names are not resolved: any but localhost counts as reachable."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_binding(
    settings: Settings, host: str, *, file: Path = Path("--host"), line: int = 0, column: int = 0
) -> None:
    """Raise `ConfigError` if other machines can connect to `host` and the settings have no keys."""
    if settings.keys or is_loopback(host):
        return
    raise ConfigError(
        [
            Problem(
                file=file,
                line=line,
                column=column,
                where="server.host",
                message=f"'{host}' can be reached from other machines, and the configuration has no [[keys]]",
                expected="a loopback address such as 127.0.0.1, or keys (make one with `penstock keys new`)",
            )
        ]
    )
