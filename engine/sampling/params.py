"""What a request may ask of the sampler: the OpenAI parameters and vLLM's extensions of them."""

import msgspec


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How to turn logits into tokens, and when to stop.

    The edge fills and bounds every field; the engine trusts them. Neutral values switch a rule off: `temperature=0`
    is greedy, `top_p=1`, `top_k=0`, `min_p=0`, penalties 0 (`repetition_penalty=1`).
    """

    max_tokens: int
    """Output tokens at the most; at least 1."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    """Seeds the counter-based generator; None lets the engine draw one for the request."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, bias added to its logit), as OpenAI defines it; ids beyond the vocabulary are refused at submit."""
    min_tokens: int = 0
    """End tokens and stop tokens cannot be sampled before this many output tokens."""
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    """The stop string, or the text of the end token, is part of the answer."""
    skip_special_tokens: bool = True
    """Special tokens have no text in the answer."""
    allowed_token_ids: tuple[int, ...] = ()
    """Nothing else is sampled; empty: anything may be."""
    bad_words: tuple[str, ...] = ()
    """See engine/sampling/bad_words.py."""
    logprobs: int | None = None
    """None: off. k >= 0: report the chosen token's log-probability and the k best alternatives of each position."""
    prompt_logprobs: int | None = None
    """The same for the prompt's own tokens. Such a prompt is computed whole: the prefix cache keeps no logits."""
    left_out: tuple[str, ...] = ()
    """Of `temperature`, `top_p`, `top_k`, `min_p` and `repetition_penalty` those that the client did not name. The
    API's values stand here, and the model that answers may want others (engine/sampling/defaults.py)."""
    prompt_only: bool = False
    """No output at all, whatever `max_tokens` is: the answer is what is said of the prompt."""
