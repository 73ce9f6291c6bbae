"""Table of an engine's LoRA adapters: one current version per name, and older ones while sequences use them.

Pure: the tensors of an adapter are opaque here, only the runner reads them.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import EngineError, RequestRefused


class PreparedAdapter(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """An adapter read, checked against the model and prepared for products; valid only for the runner that made it."""

    digest: bytes
    """Hash of the files' content; part of the prefix cache's key."""
    rank: int
    """The largest rank among its modules."""
    memory_bytes: int
    numbers: Any = None


class Adapter(msgspec.Struct, frozen=True, eq=False):
    """One version of a named adapter. Compared by identity."""

    name: str
    version: int
    """1, 2, ... in the order of loading under this name."""
    path: Path
    prepared: PreparedAdapter


class WantedAdapter(msgspec.Struct, frozen=True):
    """What an engine is to be loaded with."""

    name: str
    version: int
    path: Path


class AdapterUse(msgspec.Struct, frozen=True, gc=False):
    """One adapter version in memory: current, or still used by a sequence."""

    name: str
    version: int
    current: bool
    running: int
    """Number of live sequences that use it."""


class AdapterRows(msgspec.Struct, frozen=True, gc=False):
    """The rows start : end of the flat batch use `adapter`."""

    start: int
    end: int
    adapter: Adapter


class AdapterTable:
    """Which version new sequences get, and which versions live sequences hold.

    A sequence keeps the version that it started with. A replaced or dropped version is released, with its memory, when
    its last sequence ends.
    """

    def __init__(self) -> None:
        self._current: dict[str, Adapter] = {}
        self._users: Counter[Adapter] = Counter()

    def put(self, adapter: Adapter) -> None:
        self._current[adapter.name] = adapter

    def drop(self, name: str) -> None:
        """New sequences can no longer use this name; an unknown one is ignored."""
        self._current.pop(name, None)

    def find(self, name: str) -> Adapter | None:
        """The current version; None for "", which means no adapter. Raises RequestRefused if the name is unknown."""
        if not name:
            return None
        adapter = self._current.get(name)
        if adapter is None:
            raise RequestRefused("adapter_not_loaded", f"No adapter '{name}' is loaded; load it, or leave it out.")
        return adapter

    def hold(self, adapter: Adapter | None) -> None:
        if adapter is not None:
            self._users[adapter] += 1

    def release(self, adapter: Adapter | None) -> None:
        if adapter is not None:
            self._users[adapter] -= 1
            if not self._users[adapter]:
                del self._users[adapter]

    @property
    def current(self) -> tuple[Adapter, ...]:
        """The versions that new sequences can use."""
        return tuple(self._current.values())

    def uses(self) -> tuple[AdapterUse, ...]:
        """All versions in memory."""
        if not (self._current or self._users):
            return ()
        return tuple(
            AdapterUse(adapter.name, adapter.version, self._current.get(adapter.name) is adapter, self._users[adapter])
            for adapter in dict.fromkeys([*self._current.values(), *self._users])
        )

    def check_integrity(self, held: Iterable[Adapter | None]) -> None:
        """Raises EngineError if the reference counts differ from `held`, the adapters of all live sequences."""
        if Counter(adapter for adapter in held if adapter is not None) != self._users:
            raise EngineError("engine_integrity", "adapters differ from what their sequences hold; this is a defect")
