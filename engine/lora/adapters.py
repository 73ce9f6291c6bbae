"""The adapters that an engine answers with: one current version a name, and older ones while an answer needs them.

Pure: what an adapter's numbers look like is for the runner to know.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import EngineError, RequestRefused


class PreparedAdapter(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """Read, checked against the model and ready for products: a runner made it, and only that runner can use it."""

    digest: bytes
    """Of the files' content: equal digests, equal numbers. The prefix cache keeps KV apart by it."""
    rank: int
    """The largest of its modules'."""
    memory_bytes: int
    numbers: Any = None


class Adapter(msgspec.Struct, frozen=True, eq=False):
    """One version of a named adapter. Two of them are never equal, whatever they hold."""

    name: str
    version: int
    """1, 2, ... in the order in which they were loaded under this name."""
    path: Path
    prepared: PreparedAdapter


class AdapterUse(msgspec.Struct, frozen=True, gc=False):
    """A version that is current, or that somebody still answers with."""

    name: str
    version: int
    current: bool
    running: int
    """Sequences alive that use it."""


class AdapterTable:
    """Which version a new sequence gets, and which versions sequences alive hold.

    A sequence keeps the version that it began with. A version that was replaced or dropped is forgotten with its last
    sequence, and its memory with it.
    """

    def __init__(self) -> None:
        self._current: dict[str, Adapter] = {}
        self._users: Counter[Adapter] = Counter()

    def put(self, adapter: Adapter) -> None:
        """The current version of its name from now on."""
        self._current[adapter.name] = adapter

    def drop(self, name: str) -> None:
        """New sequences find no adapter of that name any more; an unknown one is ignored."""
        self._current.pop(name, None)

    def find(self, name: str) -> Adapter | None:
        """The current version; None for "", which is no adapter.

        Raises:
            RequestRefused: there is none of that name.
        """
        if not name:
            return None
        found = self._current.get(name)
        if found is None:
            raise RequestRefused("adapter_not_loaded", f"no adapter '{name}' is loaded; load it or ask without it")
        return found

    def hold(self, adapter: Adapter | None) -> None:
        """A sequence begins with it."""
        if adapter is not None:
            self._users[adapter] += 1

    def release(self, adapter: Adapter | None) -> None:
        """A sequence that began with it has ended."""
        if adapter is not None:
            self._users[adapter] -= 1
            if not self._users[adapter]:
                del self._users[adapter]

    @property
    def current(self) -> tuple[Adapter, ...]:
        """Those that new sequences can have."""
        return tuple(self._current.values())

    def uses(self) -> tuple[AdapterUse, ...]:
        """All versions in memory."""
        if not (self._current or self._users):
            return ()
        return tuple(
            AdapterUse(each.name, each.version, self._current.get(each.name) is each, self._users[each])
            for each in dict.fromkeys([*self._current.values(), *self._users])
        )

    def check_integrity(self, held: Iterable[Adapter | None]) -> None:
        """Compare the books with `held`, the adapters of all sequences alive.

        Raises:
            EngineError: they differ.
        """
        if Counter(each for each in held if each is not None) != self._users:
            raise EngineError("engine_integrity", "adapters differ from what their sequences hold; this is a defect")
