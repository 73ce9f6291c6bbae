"""Token counts of an upstream's answer: as it reports them, in all known forms, and estimated in the stream. Sans-IO.

Implausible numbers are treated as missing, so that the gateway's own count is used.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

_MAX_TOKENS = 1 << 31
"""Maximum tokens of one call; larger numbers do not fit into the ledger."""


_BYTES_PER_TOKEN = 8
_MAX_CHARACTERS_PER_TOKEN = 16
"""No tokenizer averages more characters per token, not counting runs of one character."""
_MAX_EXCESS = 1 << 20
"""Maximum tokens beyond those requested: `max_tokens` limits no reasoning at some servers, and no model reasons longer.
"""
_RUN = re.compile(r"(.)\1+", re.DOTALL)


class UsageCounts(msgspec.Struct, frozen=True):
    """Tokens; 0 where nothing plausible was reported."""

    prompt: int = 0
    completion: int = 0
    """Includes reasoning."""
    cached: int = 0
    """Part of the prompt that was cached."""
    reasoning: int = 0
    """Part of the completion that is reasoning, where it is reported."""

    def then(self, later: "UsageCounts") -> "UsageCounts":
        """Merge with a later report of the same answer, which takes precedence where it has numbers."""
        return UsageCounts(
            later.prompt or self.prompt,
            later.completion or self.completion,
            later.cached or self.cached,
            later.reasoning or self.reasoning,
        )


def counts_of(*, usage: Any, timings: Any = None) -> UsageCounts:
    """`usage`: the API's object. `timings`: llama.cpp's, for answers without usage."""
    if isinstance(usage, dict) and usage:
        counts = _of_usage(usage)
        if counts.prompt or counts.completion:
            return counts
    if isinstance(timings, dict):
        cached = _count(timings, "cache_n")
        return UsageCounts(_count(timings, "prompt_n") + cached, _count(timings, "predicted_n"), cached)
    return UsageCounts()


def _of_usage(usage: Mapping[str, Any]) -> UsageCounts:
    usual = usage.keys() <= _USUAL
    prompt = _count(usage, "prompt_tokens", "promptTokens")
    completion = _count(usage, "completion_tokens", "output_tokens", "completionTokens", "outputTokens")
    read = 0 if usual else _count(usage, "cache_read_input_tokens", "cacheReadInputTokens")
    if not (prompt or usual):
        # Anthropic's input_tokens excludes cache reads and writes.
        prompt = _count(usage, "input_tokens", "inputTokens") + read
        prompt += _count(usage, "cache_creation_input_tokens", "cacheWriteInputTokens")
    total = _count(usage, "total_tokens", "totalTokens")
    hit = 0 if usual else _count(usage, "prompt_cache_hit_tokens")
    if not (prompt or usual):
        prompt = hit + _count(usage, "prompt_cache_miss_tokens")
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    if prompt and total > prompt + completion:
        # Gemini and xAI report reasoning only in total_tokens; it is billed as completion.
        reasoning = reasoning or (total - prompt - completion if completion else 0)
        completion = total - prompt
    elif completion and total > completion:
        prompt = prompt or total - completion
    cached = _detail(usage, "prompt_tokens_details", "cached_tokens")
    if not (cached or usual):
        cached = _detail(usage, "input_tokens_details", "cached_tokens") or _count(usage, "cached_tokens")
        cached = cached or hit or read
    return UsageCounts(prompt, completion, min(cached, prompt), min(reasoning, completion))


_USUAL = frozenset({
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
})  # fmt: skip
"""The names of the OpenAI API: where there are no others, none is looked for."""


def _detail(usage: Mapping[str, Any], table: str, name: str) -> int:
    details = usage.get(table)
    return _count(details, name) if isinstance(details, dict) else 0


def _count(table: Mapping[str, Any], *names: str) -> int:
    """The first of these keys with a plausible number of tokens; 0 if there is none."""
    for name in names:
        value = table.get(name)
        if value is None:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MAX_TOKENS:
            return int(value) if value == int(value) else 0
    return 0


class TokenCounter:
    """Counts tokens of text, reasoning and tool calls."""

    def __init__(self, max_tokens: int) -> None:
        """`max_tokens`: maximum number of tokens requested."""
        self.tokens = 0
        """One per piece, or one per eight bytes of a longer piece; or the number of log-probabilities."""
        self._max_tokens = max_tokens
        self._pieces: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, text: str, positions: int) -> None:
        """Add one event's text. `positions`: number of tokens with log-probabilities in it."""
        self._pieces.append(text)
        self.tokens += positions or len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN or 1

    def add_all(self, texts: list[str]) -> None:
        """Add several events' texts."""
        self._pieces += texts
        self.tokens += sum([len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN or 1 for text in texts])

    def settle(self, counts: UsageCounts) -> None:
        """Replace the count by the upstream's own, if that is plausible."""
        if self._is_possible(counts):
            self.tokens = counts.completion

    def _is_possible(self, counts: UsageCounts) -> bool:
        reported = counts.completion
        if not reported:
            return not self._pieces
        characters = sum(map(len, self._pieces))
        if reported > max(self._max_tokens, 4 * characters) + _MAX_EXCESS:
            return False
        if reported * _MAX_CHARACTERS_PER_TOKEN >= characters:
            return True
        return reported * _MAX_CHARACTERS_PER_TOKEN >= len(_RUN.sub(r"\1", "".join(self._pieces)))
