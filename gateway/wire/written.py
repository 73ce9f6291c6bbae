"""The fields of a body that the client wrote, by name: what an upstream is asked follows from them alone."""

from typing import Any

import msgspec

_READ_HERE = frozenset({
    "best_of",
    "echo",
    "endpoint",
    "id",
    "messages",
    "model",
    "n",
    "prompt",
    "stream",
    "type",
})  # fmt: skip
"""What the gateway itself answers or replaces."""


def written(body: msgspec.Struct) -> dict[str, Any]:
    """As JSON values. `null` is as good as absent."""
    given = {
        name: value
        for name in body.__struct_fields__
        if name not in _READ_HERE and (value := getattr(body, name)) is not None
    }
    return msgspec.to_builtins(given)  # type: ignore[no-any-return]
