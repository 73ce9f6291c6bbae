"""The body of `POST /v1/completions`: fields, checks, conversion."""

from typing import Any

from engine.sampling.params import SamplingParams
from gateway.errors import BadField
from gateway.openai.requests.sampling import SamplingBody, check_choices, check_logprobs, sampling_params
from gateway.openai.view import View

_DEFAULT_MAX_TOKENS = 16
"""The OpenAI API's default for this endpoint."""


class CompletionBody(SamplingBody, kw_only=True):
    """The body of a text completion."""

    prompt: str | list[str | int | list[int]]
    logprobs: int | None = None
    best_of: int | None = None
    prompt_embeds: Any = None
    suffix: Any = None


def completion_params(body: CompletionBody, prompts: int, max_choices: int) -> tuple[SamplingParams, int, View]:
    """Sampling parameters, choices for each prompt, and what to return beside the text. Raises `BadField`."""
    n = check_choices(body.n, prompts, max_choices)
    if body.best_of is not None and body.best_of != n:
        raise BadField(
            "best_of",
            f"'best_of' must be 'n' ({n}): choices are not made to be thrown away. Raise 'n', and choose.",
            "unsupported_parameter",
        )
    view = View(
        check_logprobs("logprobs", body.logprobs),
        check_logprobs("prompt_logprobs", body.prompt_logprobs),
        bool(body.echo),
    )
    params = sampling_params(body, max_tokens=body.max_tokens, default_max_tokens=_DEFAULT_MAX_TOKENS, view=view)
    return params, n, view
