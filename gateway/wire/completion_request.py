"""`POST /v1/completions`: the body, checked, as an `InferenceRequest`."""

from typing import Any

from engine.params import SamplingParams
from gateway.wire import neutral
from gateway.wire.sampling import SamplingBody, check_choices, check_logprobs, sampling_params

_DEFAULT_MAX_TOKENS = 16
"""What the OpenAI API says for this endpoint."""


class CompletionBody(SamplingBody, kw_only=True):
    """The body of a text completion."""

    prompt: str | list[str | int | list[int]]
    logprobs: int | None = None
    best_of: Any = None
    echo: Any = None
    suffix: Any = None


def completion_params(body: CompletionBody, prompts: int, max_choices: int) -> tuple[SamplingParams, int]:
    """How to sample, and how many choices a prompt. Raises `BadField`."""
    neutral.check(body, neutral.COMPLETION)
    n = check_choices(body.n, prompts, max_choices)
    logprobs = None if body.logprobs is None else check_logprobs("logprobs", body.logprobs)
    params = sampling_params(
        body, max_tokens=body.max_tokens, default_max_tokens=_DEFAULT_MAX_TOKENS, logprobs=logprobs
    )
    return params, n
