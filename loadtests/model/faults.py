"""Faults in a scenario: what is broken on purpose, when, and for how long."""

from pathlib import Path
from typing import Annotated, Literal

from config.model.bounds import Count, within
from config.model.table import NonNegativeSeconds, PositiveBytes, PositiveSeconds, Seconds, Table
from config.model.upstreams import SecretSource

FaultKind = Literal["stall", "kill", "restart", "proxy", "reload"]
ProxyMode = Literal["refuse", "reset", "stall", "cut", "drip"]


class FaultSettings(Table, frozen=True):
    """One fault."""

    kind: FaultKind
    """stall: SIGSTOP, and SIGCONT after `lasts`. kill: SIGKILL. restart: SIGTERM, and the command of the process again.
    proxy: the way through one of `proxies` is broken for `lasts`. reload: a POST to `url`, as of Penstock's admin
    API."""
    at: NonNegativeSeconds
    """From the beginning of the run, the warm-up included."""
    lasts: PositiveSeconds | None = None
    name: str = ""
    """In the report; "": made of the rest."""
    process: str = ""
    """One of `processes`, or a name that --pid NAME=PID gives to a process that runs already."""
    proxy: str = ""
    """One of `proxies`."""
    mode: ProxyMode | None = None
    """refuse: no connection is accepted. reset: nor does one stay. stall: they stay, and nothing comes through. cut:
    each is closed when `after_bytes` more have come from the server. drip: at most `bytes_a_second` come."""
    after_bytes: Annotated[int, within(0)] = 0
    bytes_a_second: PositiveBytes | None = None
    url: str = ""
    key: SecretSource | None = None
    """Sent with the reload as a bearer token."""


class ProcessSettings(Table, frozen=True):
    """A command that the load tester starts before the run and ends after it."""

    command: tuple[str, ...]
    ready: str = ""
    """An address that answers with 200 as soon as the process serves; "": it is ready at once."""
    patience: PositiveSeconds = Seconds(120)
    """For being ready, and for ending after SIGTERM; beyond it the run fails, or the process is killed."""
    log: Path | None = None
    """What it prints; None: nowhere."""


class ProxySettings(Table, frozen=True):
    """A TCP proxy of the load tester, through which something is to reach a server."""

    listen: str
    """host:port on this machine."""
    to: str
    """host:port of the server."""
    connections: Count = 1024
    """Further ones are refused."""


LONGEST_FAULT = Seconds(600)
