"""Sampling parameters of a request: those of OpenAI's API and vLLM's extensions."""

from hashlib import blake2b

import msgspec

_MASK = 2**64 - 1


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How to sample tokens, and when to stop.

    The gateway fills and validates every field; the engine does not check them again. Neutral values disable a rule:
    `temperature=0` is greedy, `top_p=1`, `top_k=0`, `min_p=0`, penalties 0 (`repetition_penalty=1`).
    """

    max_tokens: int
    """Maximum number of output tokens; at least 1."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    """Seed of the counter-based generator; None: derived from the engine's seed and the request id."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, bias added to its logit), as in OpenAI's API; ids beyond the vocabulary are refused on submission."""
    min_tokens: int = 0
    """End tokens and stop tokens cannot be sampled before this many output tokens."""
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    """Include the stop string, or the text of the end token, in the output."""
    skip_special_tokens: bool = True
    """Special tokens are not part of the output text."""
    allowed_token_ids: tuple[int, ...] = ()
    """Only these can be sampled; empty: all."""
    bad_words: tuple[str, ...] = ()
    """See engine/sampling/bad_words.py."""
    logprobs: int | None = None
    """None: off. k >= 0: report the chosen token's log-probability and the k best alternatives of each position."""
    logprob_token_ids: tuple[int, ...] = ()
    """With `logprobs`: report these tokens, in this order, instead of the best ones."""
    prompt_logprobs: int | None = None
    """The same for the prompt's tokens. Such a prompt is computed whole, as the prefix cache does not keep logits."""
    left_out: tuple[str, ...] = ()
    """Those of `temperature`, `top_p`, `top_k`, `min_p` and `repetition_penalty` that the client left out. They hold
    the API's defaults, which the model's own may replace (engine/sampling/defaults.py)."""
    prompt_only: bool = False
    """No output tokens, whatever `max_tokens` is: only the prompt is scored, and what may follow it, if
    `logprob_token_ids` asks for that."""


def sequence_seed(requested: int | None, engine_seed: int, sequence_id: int) -> int:
    """The request's seed modulo 2^64; without one, a hash of the engine's seed and the sequence id."""
    if requested is not None:
        return requested & _MASK
    key = (engine_seed & _MASK).to_bytes(8, "little")
    digest = blake2b((sequence_id & _MASK).to_bytes(8, "little"), digest_size=8, key=key, person=b"sequence")
    return int.from_bytes(digest.digest(), "little")
