"""`POST /v1/completions`: the body, checked, as an `InferenceRequest`."""

from typing import Any

from actors.messages import Prompt, TextPrompt, TokenPrompt
from engine.params import SamplingParams
from gateway.errors import BadField
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


def completion_prompts(body: CompletionBody) -> tuple[Prompt, ...]:
    """Text, token ids, or a list of either. Raises `BadField`."""
    prompt = body.prompt
    if isinstance(prompt, str):
        return (TextPrompt(prompt),)
    if not prompt:
        raise BadField("prompt", "'prompt' must not be an empty list.")
    kind = type(prompt[0])
    if not all(type(each) is kind for each in prompt):
        raise BadField(
            "prompt", "'prompt' must be text, token ids, or a list of either: not a mixture.", "invalid_type"
        )
    if kind is int:
        return (_tokens("prompt", prompt),)
    if kind is str:
        return tuple([TextPrompt(each) for each in prompt if isinstance(each, str)])
    return tuple([_tokens(f"prompt[{index}]", each) for index, each in enumerate(prompt) if isinstance(each, list)])


def completion_params(body: CompletionBody, prompts: int, max_choices: int) -> tuple[SamplingParams, int]:
    """How to sample, and how many choices a prompt. Raises `BadField`."""
    neutral.check(body, neutral.COMPLETION)
    n = check_choices(body.n, prompts, max_choices)
    logprobs = None if body.logprobs is None else check_logprobs("logprobs", body.logprobs)
    params = sampling_params(
        body, max_tokens=body.max_tokens, default_max_tokens=_DEFAULT_MAX_TOKENS, logprobs=logprobs
    )
    return params, n


def _tokens(where: str, ids: list[Any]) -> TokenPrompt:
    if not ids:
        raise BadField(where, f"'{where}' must hold at least one token id.")
    if min(ids) < 0 or max(ids) >= 2**31:
        raise BadField(where, f"'{where}' holds a number that is no token id.")
    return TokenPrompt(tuple(ids))
