"""Properties of backends that plans need beside the load: context lengths, and which make embeddings."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

UNBOUNDED = 1 << 40
"""Stands for an unknown context length."""
UNLIMITED_OUTPUT_TOKENS = 4096
"""Output tokens to reserve if the context length is unknown and neither client nor route sets a limit. This limit is
not sent to the backend."""


class EmbeddingModel(msgspec.Struct, frozen=True):
    """The model of an engine that makes embeddings, or scores by labels."""

    folder: str
    """Identifies the model: vectors of different models cannot be compared."""
    whole: int | None = None
    """Dimensions of an embedding; None: unknown, and any number is accepted."""
    shorter: tuple[int, ...] | None = ()
    """Sizes to which it may be cut (Matryoshka training); None: any."""
    labels: int = 0
    """It makes scores of so many labels; 0: embeddings."""

    def allows(self, size: int) -> bool:
        if self.whole is None or size == self.whole:
            return True
        return 0 < size < self.whole and (self.shorter is None or size in self.shorter)


class Backends(msgspec.Struct, frozen=True):
    """Engines and upstreams, by name."""

    max_model_len: Mapping[str, int] = MappingProxyType({})
    """Tokens of prompt and output together; `UNBOUNDED`: unknown. A missing one has not been loaded yet."""
    encoders: Mapping[str, EmbeddingModel] = MappingProxyType({})
    """Engines that make embeddings or scores; all others make text."""


def upstream_length(context: int | None, *, counts: bool) -> int:
    """`counts`: its tokenizer is known. Without it prompts are only estimated, and the upstream itself refuses."""
    return context if context is not None and counts else UNBOUNDED
