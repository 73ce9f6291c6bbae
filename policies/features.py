"""What a request is like, as far as decisions look at it."""

import msgspec


class Features(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Facts of one request, known before anything is decided."""

    model: str
    """The name that the client asked for."""
    tenant: str
    tier: str
    tags: frozenset[str] = frozenset()
    prompt_tokens: int
    """Of all prompts of the request together."""
    max_tokens: int
    """Output tokens that the client allows for each choice; 0 if it did not say."""
    choices: int = 1
    """Number of prompts times `n`."""
    turn: int = 1
    """User turns in the conversation, this one included."""
    complexity: float = 0.0
    """0..1, see `policies.complexity`."""
