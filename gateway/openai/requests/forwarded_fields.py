"""The fields of a body that are sent to upstreams as the client wrote them."""

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
"""Fields that the gateway itself handles or replaces."""


def written(given: GivenFields) -> dict[str, Any]:
    """The fields that an upstream may get unchanged. `null` counts as absent."""
    return {name: value for name, value in given.items() if value is not None and name not in _READ_HERE}
