"""A request of a recorded trace: when, how long, and with which beginning."""

import msgspec


class TracedRequest(msgspec.Struct, frozen=True, array_like=True):
    """`at_s` is from the beginning of the run."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    prefix: tuple[int, ...] = ()
    """One id for each block of the prompt; prompts share as many blocks as leading ids are equal."""
    prefix_block: int = 0
    """Tokens of a block."""
    tenant: str = ""
    """As it was recorded."""
