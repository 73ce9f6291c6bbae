"""What an upstream says that it has read and said, in the forms that servers have. Sans-IO.

A number that cannot be true is as good as none: who reads it then takes the count made here.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

_MOST = 1 << 31
"""Tokens of one call; more would not go into the ledger."""


class UsageCounts(msgspec.Struct, frozen=True):
    """Tokens; 0 where nothing believable was said."""

    prompt: int = 0
    completion: int = 0
    """Reasoning included."""
    cached: int = 0
    """Of the prompt."""
    hidden: bool = False
    """Part of the completion is reasoning, which may not have been shown."""

    def then(self, later: "UsageCounts") -> "UsageCounts":
        """Both are of one answer: what the later one leaves out stays."""
        return UsageCounts(
            later.prompt or self.prompt,
            later.completion or self.completion,
            later.cached or self.cached,
            later.hidden or self.hidden,
        )


def counts_of(*, usage: Any, timings: Any = None) -> UsageCounts:
    """`usage`: the API's object. `timings`: llama.cpp's, for an answer without usage."""
    if isinstance(usage, Mapping) and usage:
        found = _of_usage(usage)
        if found.prompt or found.completion:
            return found
    if isinstance(timings, Mapping):
        cached = _count(timings, "cache_n")
        return UsageCounts(_count(timings, "prompt_n") + cached, _count(timings, "predicted_n"), cached)
    return UsageCounts()


def _of_usage(usage: Mapping[str, Any]) -> UsageCounts:
    prompt = _count(usage, "prompt_tokens", "promptTokens")
    completion = _count(usage, "completion_tokens", "output_tokens", "completionTokens", "outputTokens")
    read = _count(usage, "cache_read_input_tokens", "cacheReadInputTokens")
    if not prompt:
        # Anthropic's input leaves out what went through the cache.
        prompt = _count(usage, "input_tokens", "inputTokens") + read
        prompt += _count(usage, "cache_creation_input_tokens", "cacheWriteInputTokens")
    total = _count(usage, "total_tokens", "totalTokens")
    hit, missed = _count(usage, "prompt_cache_hit_tokens"), _count(usage, "prompt_cache_miss_tokens")
    prompt = prompt or hit + missed
    hidden = bool(_count(_table(usage, "completion_tokens_details"), "reasoning_tokens"))
    if prompt and total > prompt + completion:
        hidden = hidden or bool(completion)
        # Gemini and xAI leave the reasoning out of the completion, and it was made all the same.
        completion = total - prompt
    elif completion and total > completion:
        prompt = prompt or total - completion
    cached = (
        _count(_table(usage, "prompt_tokens_details"), "cached_tokens")
        or _count(_table(usage, "input_tokens_details"), "cached_tokens")
        or _count(usage, "cached_tokens")
        or hit
        or read
    )
    return UsageCounts(prompt, completion, min(cached, prompt), hidden)


def _table(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = usage.get(name)
    return value if isinstance(value, Mapping) else {}


def _count(table: Mapping[str, Any], *names: str) -> int:
    """The first of these that is a number of tokens; 0 if none is."""
    for name in names:
        value = table.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MOST:
            return int(value) if value == int(value) else 0
    return 0
