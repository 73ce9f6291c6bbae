"""What of a body an upstream is asked for in the client's own words."""

from typing import Any

from gateway.openai.requests.json_body import GivenFields

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


def written(given: GivenFields) -> dict[str, Any]:
    """The fields that an upstream may get as they are. `null` is as good as absent."""
    return {name: value for name, value in given.items() if value is not None and name not in _READ_HERE}
