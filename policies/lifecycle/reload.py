"""What a changed configuration may change while the service serves, and what needs a restart.

A file is applied whole or not at all: what runs is always exactly what one file says. A restart is needed for what the
service has built at its start: listeners, the ledger's file, engines and upstreams.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from config.model.settings import Settings
from config.problems.errors import Problem

_NEEDS_RESTART = frozenset({"server", "ledger", "cores", "engines", "upstreams", "watchdog", "batch"})
_LIVE = frozenset({"batch.price"})
_LISTENS = frozenset({"admin.enabled", "admin.host", "admin.port"})


class Change(msgspec.Struct, frozen=True):
    """Between two settings, as dotted places such as "routes.chat" or "server.port"."""

    live: tuple[str, ...]
    restart: tuple[str, ...]
    """What cannot change without a restart."""

    def __bool__(self) -> bool:
        return bool(self.live or self.restart)


class Swapped(msgspec.Struct, frozen=True, tag="swapped"):
    """The new policy decides from now on."""

    policy: str
    """Its digest. It is the same as before if only comments, owners, keys or tests have changed."""
    before: str
    changed: tuple[str, ...]


class Unchanged(msgspec.Struct, frozen=True, tag="unchanged"):
    """The files say what runs already."""

    policy: str


class ReloadRefused(msgspec.Struct, frozen=True, tag="refused"):
    """The last good policy serves on."""

    policy: str
    """The one that serves on."""
    problems: tuple[Problem, ...]


ReloadResult = Swapped | Unchanged | ReloadRefused


def compare(before: Settings, after: Settings) -> Change:
    """What is different."""
    live: list[str] = []
    restart: list[str] = []
    changed_adapters = {
        f"engines.{name}"
        for name, engine in after.engines.items()
        if name in before.engines
        and before.engines[name] == msgspec.structs.replace(engine, adapters=before.engines[name].adapters)
    }
    for table in Settings.__struct_fields__:
        for place in _differences(table, getattr(before, table), getattr(after, table)):
            if place in changed_adapters:
                live.append(f"{place}.adapters")
                continue
            fixed = (table in _NEEDS_RESTART and place not in _LIVE) or place in _LISTENS
            (restart if fixed else live).append(place)
    return Change(tuple(live), tuple(restart))


def restart_problems(change: Change, file: Path) -> tuple[Problem, ...]:
    """One for each place that cannot change now."""
    message, expected = "this cannot change while the server runs", "the value with which it was started, or a restart"
    return tuple(Problem(file=file, where=place, message=message, expected=expected) for place in change.restart)


def _differences(place: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    old, new = _parts(before), _parts(after)
    if old is None or new is None:
        yield place
        return
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    yield from (f"{place}.{name}" for name in names)
    if not names:
        yield f"{place} (their order)"


def _parts(value: Any) -> Mapping[str, Any] | None:
    """A table's keys, or a list's entries by name; None: it is compared as a whole."""
    if isinstance(value, dict):
        return value
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        named = {str(getattr(each, "name", None) or getattr(each, "id", "")): each for each in value}
        return named if "" not in named and len(named) == len(value) else None
    return None
