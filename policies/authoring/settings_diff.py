"""Lists the differences between two policy files, setting by setting, as data and as readable text."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from config.model.calibration import Calibration
from config.model.routing import RungSettings
from config.model.settings import Settings
from config.model.table import Bytes, ClockTime, Moment, Seconds
from config.model.units import NOTATIONS
from policies.routing.policy import first_threshold

ChangeKind = Literal["added", "removed", "changed", "moved", "follows"]

_NAMES = {"keys": "id"}
"""The field that identifies the members of a list, where it is not `name`."""
_SECRET = {("keys", "hash"), ("upstreams", "headers")}
_INERT = {"keys", "tests", "server", "ledger", "cores", "admin", "metrics", "log", "watchdog"}
_INERT_INSIDE = {"engines", "upstreams", "models"}
"""Decisions depend only on the names in these tables."""
_MAX_SUMMARY_CHARS = 120
_INERT_KEYS = {"owner", "comment"}


class SettingChange(msgspec.Struct, frozen=True):
    """One difference. `str()` gives a readable text."""

    kind: ChangeKind
    """follows: not in the file, but a consequence of another change."""
    subject: str
    """"route", "cascade", "tenant" ..., or a table such as "retry_budget"."""
    name: str
    """Name of the subject; "" where there is only one."""
    key: str
    """Dotted key within the subject; "" for the whole subject."""
    before: str
    """The value in TOML notation; "" if it was not set. `after` likewise."""
    after: str
    decides: bool = True
    """False if the change does not affect decisions."""

    def __str__(self) -> str:
        subject = f"{self.subject} {self.name}".strip()
        key = f"{self.key} " if self.key else ""
        match self.kind:
            case "added" if not self.key:
                return f"{subject}: new" + (f": {self.after}" if self.after else "")
            case "removed" if not self.key:
                return f"{subject}: gone"
            case "moved":
                return f"{subject}: {key}moved from {self.before} to {self.after}"
            case "follows":
                return f"{subject}: so the {self.key} goes {self.before} → {self.after}"
        return f"{subject}: {key}{self.before or 'not set'} → {self.after or 'not set'}"


def settings_diff(before: Settings, after: Settings) -> tuple[SettingChange, ...]:
    """All differences, in the order of the file's tables. Secrets are masked."""
    changes: list[SettingChange] = []
    for field in msgspec.structs.fields(Settings):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old == new:
            continue
        table = field.encode_name
        if not isinstance(old, Mapping | tuple):
            for kind, key, *values in _values(old, new, ()):
                was, now = ("***", "***") if "keys" in key else values
                changes.append(SettingChange(kind, table, "", ".".join(key), was, now, _decides(table, key)))
            continue
        changes.extend(_members(table, old, new))
        if table == "cascades":
            changes.extend(_thresholds(before, after))
    return tuple(changes)


_Value = tuple[ChangeKind, tuple[str, ...], str, str]


def _members(table: str, old: Any, new: Any) -> Iterator[SettingChange]:
    subject = "price of" if table == "prices" else table.removesuffix("s")
    if isinstance(old, Mapping):
        was, now = dict(old), dict(new)
    else:
        name_field = _NAMES.get(table, "name")
        was = {getattr(member, name_field): member for member in old}
        now = {getattr(member, name_field): member for member in new}
    inert = table in _INERT
    for name in was:
        if name not in now:
            yield SettingChange("removed", subject, name, "", "", "", not inert)
    for number, name in enumerate(now, 1):
        if name not in was:
            summary = f"as number {number} of {len(now)}" if table == "routes" else _summary(table, now[name])
            yield SettingChange("added", subject, name, "", "", summary, not inert)
    if table == "routes":
        yield from _moved(subject, list(was), list(now))
    for name, value in now.items():
        if name in was and was[name] != value:
            for kind, key, *values in _values(was[name], value, ()):
                before, after = ("***", "***") if key and (table, key[0]) in _SECRET else values
                yield SettingChange(kind, subject, name, ".".join(key), before, after, _decides(table, key))


def _summary(table: str, value: Any) -> str:
    """The value of a new member, if it is short and not secret."""
    if table in {"keys", "upstreams", "tests"}:
        return ""
    if _is_ladder(value):
        return ", ".join(map(_rung, value))
    text = written(value)
    return text if text != "{  }" and len(text) <= _MAX_SUMMARY_CHARS else ""


def _decides(table: str, key: tuple[str, ...]) -> bool:
    if table == "batch":
        return key == ("price",)
    return table not in _INERT | _INERT_INSIDE and not (table == "routes" and key and key[0] in _INERT_KEYS)


def _moved(subject: str, old: list[str], new: list[str]) -> Iterator[SettingChange]:
    """Of the names in both lists, a small set of moves that turns one order into the other."""
    was = [name for name in old if name in set(new)]
    now = [name for name in new if name in set(old)]
    stay = {
        was[block.a + offset]
        for block in difflib.SequenceMatcher(None, was, now, autojunk=False).get_matching_blocks()
        for offset in range(block.size)
    }
    for name in now:
        if name not in stay:
            before, after = f"number {old.index(name) + 1}", f"number {new.index(name) + 1}"
            yield SettingChange("moved", subject, name, "", before, after)


def _values(old: Any, new: Any, key: tuple[str, ...]) -> Iterator[_Value]:
    if old == new:
        return
    if type(old) is type(new) and isinstance(old, Calibration):
        yield "changed", key, written(old), written(new)
    elif type(old) is type(new) and isinstance(old, msgspec.Struct):
        for field in msgspec.structs.fields(old):
            yield from _values(getattr(old, field.name), getattr(new, field.name), (*key, field.encode_name))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            yield from _values(old.get(name), new.get(name), (*key, name))
    elif _is_ladder(old) and _is_ladder(new):
        yield from _rungs(old, new, key)
    elif old is None or new is None:
        kind: ChangeKind = "added" if old is None else "removed"
        yield kind, key, "" if old is None else written(old), "" if new is None else written(new)
    elif isinstance(old, Path) and isinstance(new, Path):
        if old.name != new.name or old.parent.name != new.parent.name:
            yield "changed", key, old.name, new.name
    else:
        yield "changed", key, written(old), written(new)


def _is_ladder(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(rung, RungSettings) for rung in value)


def _rungs(old: Sequence[RungSettings], new: Sequence[RungSettings], key: tuple[str, ...]) -> Iterator[_Value]:
    """The list of rungs if it differs, then the differences in rungs that both have."""
    was, now = ([_rung(rung) for rung in ladder] for ladder in (old, new))
    if was != now:
        yield "changed", (*key, "rungs"), ", ".join(was), ", ".join(now)
    for number, name in enumerate(now):
        if was == now:
            yield from _values(old[number], new[number], (*key, name))
        elif was.count(name) == now.count(name) == 1:
            yield from _values(old[was.index(name)], new[number], (*key, name))


def _rung(rung: RungSettings) -> str:
    if rung.ladder is not None:
        return f"ladder {rung.ladder}"
    return rung.to if rung.to is not None else f"answer {rung.answer!r}"


def _thresholds(before: Settings, after: Settings) -> Iterator[SettingChange]:
    """Thresholds of calibrated cascades, which follow from the target and the calibration."""
    for name, cascade in after.cascades.items():
        other = before.cascades.get(name)
        if other is None or other.defer.threshold is not None or cascade.defer.threshold is not None:
            continue
        if "verified" in {other.emit.mode, cascade.emit.mode}:
            continue
        old, new = first_threshold(other), first_threshold(cascade)
        if old != new:
            yield SettingChange("follows", "cascade", name, "threshold", f"{old:.4g}", f"{new:.4g}")


def written(value: Any) -> str:
    """A value in TOML notation; of a table only the keys that are not at their defaults."""
    match value:
        case bool():
            return "true" if value else "false"
        case Seconds() | ClockTime() | Bytes() | Moment():
            return NOTATIONS[type(value)].write(value)
        case int() | float():
            return f"{value:.10g}"
        case str():
            return value
        case Path():
            return value.name
        case Calibration():
            return f"{value.name} of {value.created} ({value.data.prompts} prompts)"
        case tuple() | list():
            return f"[{', '.join(written(member) for member in value)}]"
        case Mapping():
            return f"{{ {', '.join(f'{name} = {written(member)}' for name, member in value.items())} }}"
        case msgspec.Struct():
            return written(_non_defaults(value))
    return str(value)


def _non_defaults(struct: msgspec.Struct) -> dict[str, Any]:
    values = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if default is msgspec.NODEFAULT or value != default:
            values[field.encode_name] = value
    return values
