"""Whether new requests are welcome, and which models there are: what probes and clients ask."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from actors.api.engine_status import EngineState
from policies.lifecycle.drain import DrainState

ServiceState = DrainState | Literal["ledger_blocked", "backends_down"]
"""ledger_blocked: the ledger's file takes nothing, and nothing is handed out that is not written down. backends_down:
every engine and upstream is marked down."""


class EngineReadiness(msgspec.Struct, frozen=True):
    """One engine or upstream."""

    state: EngineState
    why: str | None
    """While loading: the last step; when failed: what went wrong."""


class Readiness(msgspec.Struct, frozen=True):
    """The service."""

    ready: bool
    state: ServiceState
    engines: Mapping[str, EngineReadiness]


class ModelCard(msgspec.Struct, frozen=True):
    """A name that clients may put into `model`."""

    id: str
    description: str
    created: int
    """Unix time."""
    max_model_len: int | None
    """None until the engines are loaded."""
    parent: str | None = None
    """The model that it is an adapter of."""
    available: bool = True
    """False: every backend that may answer to it is marked down."""
