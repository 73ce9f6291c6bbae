"""JSON questions: write an object, read a value, find the largest, remove, set, add to a number.

Answers are formatted as by Python's `json.dumps`. Difficulty depends on the number of fields, and on how much of the
object must be copied or computed.
"""

import json
from random import Random
from typing import TypeAlias

from engine.zoo.lookups import CITIES, NAMES
from engine.zoo.question import ZooQuestion

Value: TypeAlias = str | int | bool
Fields: TypeAlias = dict[str, Value]

_NUMBERS = ("age", "count", "price", "size", "weight", "score", "year", "floor")
_KEYS = ("name", "city", "active", *_NUMBERS)

_PHRASES = {
    "write": ("Write a JSON object with {pairs}.", "Give me JSON with {pairs}."),
    "read": ("What is the {key} in {doc}?", "Read the {key} from {doc}."),
    "remove": ("Remove the {key} from {doc}.", "Delete the {key} in {doc}."),
    "set": ("Set the {key} to {new} in {doc}.", "Change the {key} to {new} in {doc}."),
    "raise": ("Add {by} to the {key} in {doc}.", "Raise the {key} by {by} in {doc}."),
    "largest": ("Which field has the largest number in {doc}?", "Where is the largest number in {doc}?"),
}


def _value(rng: Random, key: str) -> Value:
    if key == "name":
        return rng.choice(NAMES)
    if key == "city":
        return rng.choice(CITIES)
    if key == "active":
        return rng.random() < 0.5
    return rng.randint(1, 99)


def _plain(key: str, value: Value) -> str:
    """A field in words, as in `name Anna`."""
    return f"{key} {json.dumps(value).strip(chr(34))}"


def edit(kind: str, fields: Fields, key: str, *, by: int, new: Value) -> str:
    """The exact answer."""
    match kind:
        case "write":
            return json.dumps(fields)
        case "read":
            value = fields[key]
            return value if isinstance(value, str) else json.dumps(value)
        case "remove":
            return json.dumps({name: value for name, value in fields.items() if name != key})
        case "set":
            return json.dumps({**fields, key: new})
        case "raise":
            return json.dumps({**fields, key: int(fields[key]) + by})
        case "largest":
            numbers = {name: value for name, value in fields.items() if name in _NUMBERS}
            name = max(numbers, key=lambda name: int(numbers[name]))
            return f'"{name}": {numbers[name]}'
    raise ValueError(kind)


def json_work(rng: Random) -> ZooQuestion:
    """One question; the level (1 to 3) sets the number of fields."""
    level = rng.randint(1, 3)
    kind = rng.choice(tuple(_PHRASES))
    size = rng.randint(1, 2) + level - 1 if kind != "largest" else rng.randint(1, 2) + level
    names = rng.sample(_NUMBERS, size) if kind == "largest" else rng.sample(_KEYS, size)
    fields = {name: _value(rng, name) for name in names}
    numbers = [name for name in names if name in _NUMBERS]
    if kind == "raise" and not numbers:
        return json_work(rng)
    if kind == "largest" and len(set(fields.values())) < size:
        return json_work(rng)
    key = rng.choice(numbers if kind == "raise" else names)
    by, new = rng.randint(1, 60), _value(rng, key)
    pairs = [_plain(name, value) for name, value in fields.items()]
    words = {
        "doc": json.dumps(fields),
        "pairs": " and ".join([", ".join(pairs[:-1]), pairs[-1]] if size > 1 else pairs),
        "key": key,
        "by": by,
        "new": _plain("", new).strip(),
    }
    details = {
        "read": key,
        "remove": key,
        "set": f"{key} {new}",
        "raise": f"{key} {by}",
    }.get(kind, "")
    prompt = rng.choice(_PHRASES[kind]).format(**words)
    unique = f"{kind} {words['doc']} {details}"
    return ZooQuestion("json", kind, prompt, edit(kind, fields, key, by=by, new=new), level, unique)
