"""`POST /v1/completions`: the body, checked; and prompts as texts or token ids, which embeddings have, too."""

from typing import Annotated, Any

from actors.api.request import ParsedBody, Prompt, TextPrompt, TokenPrompt, View
from engine.sampling.params import SamplingParams
from gateway.openai.requests.fault import fault
from gateway.openai.requests.forwarded_fields import COMPLETION as COMPLETION_FIELDS
from gateway.openai.requests.forwarded_fields import FOR_UPSTREAMS, needs_upstream
from gateway.openai.requests.grammar_request import answer_grammar
from gateway.openai.requests.json_body import GivenFields
from gateway.openai.requests.neutral import field_schema, field_schemas
from gateway.openai.requests.sampling import (
    Alternatives,
    PenstockOptions,
    SamplingBody,
    StreamOptions,
    TokenId,
    check_choices,
    check_logprobs,
    explains,
    parsed_body,
    sampling_params,
)

_DEFAULT_MAX_TOKENS = 16
"""The OpenAI API's default for this endpoint."""
Tokens = Annotated[list[TokenId], field_schema(minItems=1)]
Prompts = Annotated[str | list[str | TokenId | Tokens], field_schema(minItems=1)]
"""Texts or token ids, and not a mixture."""


class CompletionBody(SamplingBody, kw_only=True):
    """The body of a text completion."""

    forwarded = field_schemas(COMPLETION_FIELDS, FOR_UPSTREAMS)
    prompt: Prompts
    logprobs: Alternatives = None
    best_of: int | None = None
    penstock: PenstockOptions | None = None


def read_completion(body: CompletionBody, given: GivenFields, max_choices: int) -> ParsedBody:
    """Raises `BadField`."""
    needs = needs_upstream(given, COMPLETION_FIELDS)
    prompts = prompts_of("prompt", body.prompt)
    params, n, view = _params(body, len(prompts), max_choices)
    return parsed_body(body, given, needs, prompts, params, n, view, answer_grammar(body))


def _params(body: CompletionBody, prompts: int, max_choices: int) -> tuple[SamplingParams, int, View]:
    """How to sample, how many choices a prompt, and what is shown beside the text. Raises `BadField`."""
    n = check_choices(body.n, prompts, max_choices)
    if body.best_of is not None and body.best_of != n:
        raise fault(
            "best_of",
            f"must equal 'n' ({n}). Set 'n' to the number of choices you want, and pick the best yourself.",
            "unsupported_parameter",
        )
    options = body.stream_options or StreamOptions()
    view = View(
        check_logprobs("logprobs", body.logprobs),
        check_logprobs("prompt_logprobs", body.prompt_logprobs),
        bool(body.echo),
        usage=bool(options.include_usage),
        continuous_usage=bool(options.continuous_usage_stats),
        explain=explains(body.penstock),
    )
    params = sampling_params(body, max_tokens=body.max_tokens, default_max_tokens=_DEFAULT_MAX_TOKENS, view=view)
    return params, n, view


def prompts_of(field: str, prompt: str | list[str | int | list[int]]) -> tuple[Prompt, ...]:
    """Text, token ids, or a list of either, given in `field`. Raises `BadField`."""
    if isinstance(prompt, str):
        return (TextPrompt(prompt),)
    if not prompt:
        raise fault(field, "must not be an empty list.")
    kind = type(prompt[0])
    if not all(type(each) is kind for each in prompt):
        raise fault(field, "must be text, token ids, or a list of either: not a mixture.", "invalid_type")
    if kind is int:
        return (_tokens(field, prompt),)
    if kind is str:
        return tuple([TextPrompt(each) for each in prompt if isinstance(each, str)])
    return tuple([_tokens(f"{field}[{index}]", each) for index, each in enumerate(prompt) if isinstance(each, list)])


def _tokens(where: str, ids: list[Any]) -> TokenPrompt:
    if not ids:
        raise fault(where, "must hold at least one token id.")
    if min(ids) < 0 or max(ids) >= 2**31:
        raise fault(where, "holds a number that is no token id.")
    return TokenPrompt(tuple(ids))
