"""What a request needs of the backend that answers: no condition looks at it, but plan and sizes follow from it."""

from collections.abc import Collection
from typing import Literal

import msgspec

BoundTo = Literal["json", "tool_calls"]
EMBEDDINGS_PATH = "/v1/embeddings"


class Requirements(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Facts of the request's body, without any of its text."""

    adapter: str = ""
    """That the client asked for with the model's name."""
    embedding: bool = False
    """Embeddings are wanted, one for each prompt; False: text is."""
    dimensions: int | None = None
    """Numbers that an embedding shall have; None: as many as the model gives it."""
    upstream_fields: tuple[str, ...] = ()
    """Fields whose values no engine obeys."""
    bound_to: BoundTo | None = None
    """The kind of answer that a grammar makes atomic: part of one is useless, and no other model continues it."""
    prompt_logprobs: bool = False
    prompt_only: bool = False
    """The prompt is read, and nothing is made after it."""
    prompt_lengths: tuple[int, ...] = ()
    """Tokens of each prompt, if there are several; else `Features.prompt_tokens` is the one."""
    param: str = "messages"
    """The field in which the prompts came."""


def described_requirements(path: str, has: Collection[str]) -> Requirements:
    """As far as features tell them: of requests that are described, or were recorded without them."""
    if path == EMBEDDINGS_PATH:
        return Requirements(embedding=True, param="input")
    return Requirements(
        bound_to="json" if "schema" in has else None, param="prompt" if path == "/v1/completions" else "messages"
    )
