"""What a plan must know of those that answer, beside their load: how much they hold, and what they make."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

UNBOUNDED = 1 << 40
"""Stands for a length that nobody has told us."""
UNSAID_TOKENS = 4096
"""Output tokens that are reserved where the length is not known, when neither the client nor the route says how many.
The backend itself is told nothing."""


class EmbeddingModel(msgspec.Struct, frozen=True):
    """What an engine makes embeddings with."""

    folder: str
    """Vectors of two models lie in two spaces, and cannot be compared."""
    whole: int | None = None
    """Numbers of an embedding; None: not known, and any number is taken to be right."""
    shorter: tuple[int, ...] | None = ()
    """Sizes that it may be cut to, by Matryoshka training; None: any."""

    def allows(self, size: int) -> bool:
        """Whether an embedding of this size means something."""
        if self.whole is None or size == self.whole:
            return True
        return 0 < size < self.whole and (self.shorter is None or size in self.shorter)


class Backends(msgspec.Struct, frozen=True):
    """Engines and upstreams, by name."""

    max_model_len: Mapping[str, int] = MappingProxyType({})
    """Tokens of prompt and output together; `UNBOUNDED`: not known. One that is not here has not been loaded yet."""
    encoders: Mapping[str, EmbeddingModel] = MappingProxyType({})
    """Engines that make embeddings; all others make text."""


def upstream_length(context: int | None, *, counts: bool) -> int:
    """`counts`: its tokenizer is here. Where it is not, a guess at the prompt refuses nobody: the upstream does."""
    return context if context is not None and counts else UNBOUNDED
