"""Pieces of JSON as bytes, for templates."""

from typing import Any

import msgspec

from actors.api.response import Served, Usage

encode = msgspec.json.Encoder().encode
"""Any value; a `str` in 0.1 to 0.3 µs, quotes and escapes included."""


def penstock_object(served: Served) -> bytes:
    """The extension field: who answered, and how it came to that."""
    return encode(served)


def usage_fields(usage: Usage) -> dict[str, Any]:
    """OpenAI's `usage` object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
