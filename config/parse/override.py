"""Replaces the value of one key of the settings, given by its dotted name, for the arms of experiments."""

import re
from collections.abc import Iterable

import msgspec
import msgspec.inspect

from config.model.bounds import required
from config.model.settings import Settings
from config.parse.decode import SETTINGS, decode_value, file_fields
from config.problems.problems import Problems, nearest
from config.problems.source_map import Path

_TABLES = ("routes", "cascades", "ladders")
"""The tables whose keys can be overridden."""
_Info = msgspec.inspect.Type
_STEP = re.compile(r""""([^"]*)"|'([^']*)'|([^."']+)""")


def steps_of(key: str) -> list[str]:
    """The names in a dotted name. A name that contains a dot is in quotes: `cascades."gpt-4.1".emit`."""
    steps: list[str] = []
    at = 0
    while found := _STEP.match(key, at):
        steps.append(found[found.lastindex or 0])
        at = found.end() + 1
        if key[found.end() : at] != ".":
            break
    return steps if at > len(key) else key.split(".")


def apply_override(settings: Settings, key: str, value: object, problems: Problems, place: Path) -> Settings:
    """The settings with another value for `key`, in which routes are given by name and rungs by number from 0.

    An override that cannot be applied is reported at `place`, and the settings are returned unchanged.
    """
    steps = steps_of(key)
    if steps[0] not in _TABLES:
        problems.add_at_key(
            place,
            f"'{key}' cannot be overridden",
            expected=f"a name that begins with {', '.join(_TABLES[:-1])} or {_TABLES[-1]}",
            suggestion=nearest(steps[0], _TABLES),
        )
        return settings
    changed = _Override(value, problems, place).replaced(SETTINGS, settings, steps)
    assert isinstance(changed, Settings)
    return changed


class _Override(msgspec.Struct):
    _value: object
    _problems: Problems
    _place: Path

    def replaced(self, info: _Info, present: object, steps: list[str]) -> object:
        """`present` with the override applied at the given steps."""
        if not steps:
            return decode_value(info, self._value, self._problems, self._place)
        step, *further = steps
        match info:
            case msgspec.inspect.UnionType():
                return self.replaced(required(info), present, steps)
            case msgspec.inspect.StructType():
                fields = {field.encode_name: field for field in file_fields(info)}
                if step not in fields:
                    return self._unknown(step, fields, present)
                field = fields[step]
                if present is None:
                    if any(other.required for other in fields.values() if other is not field):
                        self._problems.add_at_key(self._place, f"there is nothing yet in which '{step}' could be set")
                        return None
                    return info.cls(**{field.name: self.replaced(field.type, None, further)})
                assert isinstance(present, msgspec.Struct)
                changed = self.replaced(field.type, getattr(present, field.name), further)
                return msgspec.structs.replace(present, **{field.name: changed})
            case msgspec.inspect.DictType(value_type=member):
                members = present if isinstance(present, dict) else {}
                if step not in members:
                    return self._unknown(step, members, present)
                return {**members, step: self.replaced(member, members[step], further)}
            case msgspec.inspect.VarTupleType(item_type=member):
                items = list(present) if isinstance(present, tuple) else []
                names = {getattr(item, "name", str(number)): number for number, item in enumerate(items)}
                if step not in names:
                    return self._unknown(step, names, present)
                number = names[step]
                items[number] = self.replaced(member, items[number], further)
                return tuple(items)
        self._problems.add_at_key(self._place, f"'{step}' is a key of something that has no keys")
        return present

    def _unknown(self, step: str, known: Iterable[str], present: object) -> object:
        if self._problems.is_unknown(step):
            return present
        # As they are written in a dotted name.
        names = sorted([f'"{name}"' if "." in name else name for name in known])
        self._problems.add_at_key(
            self._place,
            f"there is no '{step}' there",
            expected=f"one of: {', '.join(names)}" if names else "something that the file defines",
            suggestion=nearest(step, names),
        )
        return present
