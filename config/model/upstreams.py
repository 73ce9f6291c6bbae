"""Servers elsewhere that speak the OpenAI API."""

from pathlib import Path
from typing import Literal

import msgspec

from config.model.table import Seconds, Table

Supports = Literal["sampling", "continue", "max_completion_tokens", "structured_outputs"]
"""sampling: vLLM's parameters (top_k, min_p, repetition_penalty, min_tokens, ignore_eos, stop_token_ids). continue: an
assistant's last message is gone on with (continue_final_message), so that this upstream can take over an answer that
another rung has begun, from its text. max_completion_tokens: that name for max_tokens.
structured_outputs: vLLM's field for answers bound by a regular expression, a choice or a grammar."""


class SecretSource(Table, frozen=True):
    """Where a secret is kept: exactly one of them. Never in the TOML file."""

    env: str | None = None
    file: Path | None = None
    """Relative to the TOML file."""


class UpstreamSettings(Table, frozen=True, kw_only=True):
    """A rung outside this process: vLLM, SGLang, a hosted API, another Penstock."""

    urls: tuple[str, ...]
    """Base addresses of replicas, such as "https://vllm-a.example/v1"."""
    model: str | None = None
    """The name to ask for; None: the one that the client asked for."""
    key: SecretSource | None = None
    key_header: str = "authorization"
    """Where the key goes: "authorization" as a bearer token, any other header as it is."""
    concurrent: int = 64
    """Requests in flight at the most."""
    connect: Seconds = Seconds(5)
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    context: int | None = None
    """Tokens of prompt and output together; None: unknown. What is longer is refused here only with `tokenizer`: where
    the prompt's length is a guess, the upstream says so itself."""
    tokenizer: str | None = None
    """The engine whose tokenizer it shares, which lets an answer go on across the two."""
    supports: tuple[Supports, ...] = ()
    """What its server understands beyond the OpenAI API."""
