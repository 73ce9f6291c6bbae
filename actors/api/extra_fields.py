"""What an upstream's answer says beside the fields that are read here: it is passed on as it came.

| where | such as |
| --- | --- |
| `body`: beside `choices` | `citations`, `search_results`, `service_tier`, `timings` |
| `choice`: beside its content | `content_filter_results`, `native_finish_reason`, `stop_reason` |
| `message`: beside `content` | `annotations`, `audio`, `images`, `reasoning_details`, `thinking_blocks` |
| `usage`: beside the counts that are charged | `cost`, `audio_tokens` |

A value of `body`, `choice` or `usage` replaces an earlier one. Those of `message` are fragments, which add up.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

Fields = Mapping[str, Any]
_encode = msgspec.json.Encoder().encode
_ONE_VALUE = frozenset({"type", "id", "index", "role", "name", "format", "mime_type", "object", "signature"})
"""Texts under these names are sent whole; all others are fragments of a text."""


class ExtraFields(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Of one choice."""

    body: Fields = {}
    choice: Fields = {}
    message: Fields = {}
    usage: Fields = {}
    size: int = 0
    """In bytes, about."""


def joined(parts: Sequence[ExtraFields]) -> ExtraFields | None:
    """Those of several parts of a choice, in order. None: there are none."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return ExtraFields(
        _latest([each.body for each in parts]),
        _latest([each.choice for each in parts]),
        _joined_objects([each.message for each in parts]),
        _latest([each.usage for each in parts]),
        sum([each.size for each in parts]),
    )


def added(usages: Sequence[Fields]) -> Fields:
    """What is said of the usage of all choices: numbers add up, of other values the last counts."""
    if len(usages) < 2:
        return usages[0] if usages else {}
    whole: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage.items():
            before = whole.get(name)
            if isinstance(value, Mapping) and isinstance(before, Mapping):
                whole[name] = added([before, value])
            elif _is_number(value) and _is_number(before):
                whole[name] = before + value
            else:
                whole[name] = value
    return whole


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _latest(objects: Sequence[Fields]) -> Fields:
    return {name: value for each in objects for name, value in each.items()}


def _joined(values: list[Any], name: str = "") -> Any:
    """Fragments of one value: texts are appended, objects joined by name, lists by the `index` of their entries."""
    if all(isinstance(value, str) for value in values):
        return values[-1] if name in _ONE_VALUE else "".join(values)
    if all(isinstance(value, Mapping) for value in values):
        return _joined_objects(values)
    if all(isinstance(value, list) for value in values):
        return _joined_lists(values)
    return values[-1]


def _joined_objects(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values: dict[str, list[Any]] = {}
    for each in objects:
        for name, value in each.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: each[0] if len(each) == 1 else _joined(each, name) for name, each in values.items()}


def _joined_lists(lists: list[list[Any]]) -> list[Any]:
    """Entries with the same `index` and `type` are fragments of one; of equal others there is one."""
    entries: dict[Any, list[Any]] = {}
    for entry in chain.from_iterable(lists):
        index = entry.get("index") if isinstance(entry, dict) else None
        if type(index) is int:
            entries.setdefault((index, entry.get("type")), []).append(entry)
        else:
            # Some servers send the list so far each time.
            entries[_encode(entry)] = [entry]
    return [each[0] if len(each) == 1 else _joined(each) for each in entries.values()]
