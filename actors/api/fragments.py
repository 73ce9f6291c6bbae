"""Joins the fragments of fields whose meaning is not known, as they come in the deltas of a streamed answer."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
ONE_VALUE = frozenset({
    "type", "id", "index", "role", "name", "object", "status", "channel", "recipient", "phase", "call_id", "file_id",
    "tool_call_id", "container_id", "format", "encoding", "mime_type", "mimeType", "media_type", "language", "url",
    "title", "detail", "provider", "model", "signature",
})  # fmt: skip
"""Texts under these names are sent whole; all others are fragments of a text."""


def joined_objects(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each name one value: texts are appended, objects joined by name, lists by the `index` of their entries."""
    values: dict[str, list[Any]] = {}
    for each in objects:
        for name, value in each.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: each[0] if len(each) == 1 else _joined(each, name) for name, each in values.items()}


def _joined(values: list[Any], name: str = "") -> Any:
    """Fragments of one value."""
    if all(isinstance(value, str) for value in values):
        return _joined_texts(values, name)
    if all(isinstance(value, Mapping) for value in values):
        return joined_objects(values)
    if all(isinstance(value, list) for value in values):
        return _joined_lists(values)
    return values[-1]


def _joined_texts(texts: list[str], name: str) -> str:
    if name in ONE_VALUE:
        return next((text for text in reversed(texts) if text), "")
    if name == "data" and any(text.endswith("=") for text in texts[:-1]):
        # Each fragment is base64 of its own.
        try:
            return b64encode(b"".join([b64decode(text, validate=True) for text in texts])).decode()
        except ValueError:
            return "".join(texts)
    if name == "arguments" and texts[0].startswith("{") and texts[0].endswith("}") and len({*texts}) == 1:
        # Some servers repeat the arguments of a tool that they have run with its output.
        return texts[0]
    return "".join(texts)


def _joined_lists(lists: list[list[Any]]) -> list[Any]:
    """Entries at one `index`, with one `type` and `id`, are fragments of one, and so are blocks of thinking in a row.

    Of equal others there is one.
    """
    entries: dict[Any, list[Any]] = {}
    latest: dict[Any, Any] = {}
    ids: dict[Any, Any] = {}
    thought: list[Any] | None = None
    for entry in chain.from_iterable(lists):
        is_object = isinstance(entry, dict)
        index = entry.get("index") if is_object else None
        if type(index) is int:
            place = index, str(entry.get("type"))
            key = latest.get(place, place)
            own = entry.get("id")
            if own and ids.setdefault(key, own) != own:
                key = *place, str(own)
                ids[key] = own
            latest[place] = key
            entries.setdefault(key, []).append(entry)
        elif is_object and entry.get("type") == "thinking" and (thought is not None or not entry.get("signature")):
            if thought is None:
                thought = entries[len(entries)] = []
            thought.append(entry)
        else:
            # Some servers send the list so far each time.
            entries[_encode(entry)] = [entry]
            thought = None
        if thought is not None and entry.get("signature"):
            thought = None
    return [each[0] if len(each) == 1 else _joined(each) for each in entries.values()]
