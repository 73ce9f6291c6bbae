"""Settings of upstreams: other servers that speak the OpenAI API."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from config.model.bounds import Count, within
from config.model.media import Medium
from config.model.table import PositiveSeconds, Seconds, Table

Supports = Literal[
    "sampling",
    "continue",
    "max_completion_tokens",
    "structured_outputs",
    "cache_salt",
    "cache_control",
    "vision",
    "audio",
    "files",
]
"""sampling: vLLM's parameters (top_k, min_p, repetition_penalty, min_tokens, ignore_eos, stop_token_ids). continue: the
server continues the assistant's last message (continue_final_message), so that it can take over an answer of another
rung from its text. max_completion_tokens: the server expects this name instead of max_tokens.
structured_outputs: vLLM's field for answers constrained by a regular expression, a choice or a grammar. cache_salt:
vLLM's field that divides its prefix cache: each cache domain of tenants gets its own salt. cache_control: its mark of
a prefix to cache, in parts of a message. vision, audio, files: messages may contain images, sounds, files."""
TAKING: Mapping[Medium, Supports] = {"image": "vision", "audio": "audio", "file": "files"}
"""By kind of part: the word in `supports`."""


class SecretSource(Table, frozen=True):
    """Where a secret is stored: exactly one of an environment variable and a file, never the TOML file."""

    env: str | None = None
    """Name of the environment variable."""
    file: Path | None = None
    """Relative to the TOML file."""


class HedgeSettings(Table, frozen=True, kw_only=True):
    """A second call to another address, where the first gives no output for longer than most calls do."""

    percentile: Annotated[float, within(50, 99.9)] = 95.0
    """Of the latest times to the first output: after so long the second call begins."""
    share: Annotated[float, within(0.001, 1)] = 0.05
    """Second calls for each call, at most."""


class UpstreamSettings(Table, frozen=True, kw_only=True):
    """Another server: vLLM, SGLang, a hosted API, another Penstock."""

    urls: tuple[str, ...]
    """Base URLs of replicas, such as "https://vllm-a.example/v1"."""
    model: str | None = None
    """The model name to send; None: the one in the client's request."""
    key: SecretSource | None = None
    key_header: str = "authorization"
    """The header for the key: in "authorization" as a bearer token, in any other as it is."""
    concurrent: Count = 64
    """Maximum number of requests in flight."""
    connect: PositiveSeconds = Seconds(5)
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    context: Count | None = None
    """Limit on prompt plus output tokens; None: unknown. Longer requests are refused here only if `tokenizer` is set:
    otherwise the prompt's length is an estimate, and the upstream refuses them itself."""
    tokenizer: str | None = None
    """The engine that has the same tokenizer, so that either can continue an answer of the other."""
    supports: tuple[Supports, ...] = ()
    """What the server supports beyond the OpenAI API."""
    hedge: HedgeSettings | None = None
    """None: no second calls."""
    stream: Literal["always", "as_asked"] = "always"
    """as_asked: an answer that the client wants whole, and that no cascade judges, is requested whole."""
    extra_fields: Literal["pass_on", "omit"] = "pass_on"
    """What its answers say beside the fields of chat and text completions that are read here (citations, sounds, costs)
    reaches clients, or not."""
    extra_request_fields: tuple[str, ...] = ()
    """Names of fields beyond the API that it reads in the bodies of chat and text completions ("provider",
    "enable_thinking"): a request that has one goes to such upstreams only."""
    affinity: Literal["conversation", "none"] = "conversation"
    """With several `urls`. conversation: a request goes to the address that has answered the longest beginning of its
    conversation, whose cache probably holds that, unless the address has much more to do than the others or is left
    out. none: to the one with the fewest calls."""

    @property
    def takes(self) -> tuple[Medium, ...]:
        """What messages to it may contain beside text."""
        return tuple([medium for medium, word in TAKING.items() if word in self.supports])
