"""JSON fragments as bytes."""

from collections.abc import Mapping
from typing import Any

import msgspec

from actors.api.response import Usage

encode = msgspec.json.Encoder().encode
"""Encodes any value; a `str` takes 0.1 to 0.3 µs."""


def usage_fields(usage: Usage) -> dict[str, Any]:
    """OpenAI's `usage` object."""
    fields: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    for name, value in usage.extra.items():
        mine = fields.get(name)
        fields[name] = {**value, **mine} if isinstance(value, Mapping) and isinstance(mine, dict) else mine or value
    return fields
