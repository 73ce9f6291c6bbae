"""One try of an upstream, prepared: the calls, and how their outputs become the answer."""

from collections.abc import Sequence
from itertools import count

import msgspec

from actors.api.request import InferenceRequest, Principal, Prompt, TokenPrompt
from actors.api.response import Delta
from actors.protocol.delivery import Delivery
from actors.protocol.job import Job, UpstreamCall
from actors.request.account import EmittedChoice
from actors.request.attempt import Attempt, params_of
from actors.request.output_assembly import OutputAssembly
from actors.upstream.request_body import why_not
from actors.upstream.upstream_status import UNBOUNDED, UNSAID_TOKENS
from config.model.upstreams import UpstreamSettings
from engine.core.limits import EngineLimits
from engine.sampling.params import SamplingParams
from engine.text.tokenizer import Tokenizer
from policies.answer.answer_effects import MachineAttempt
from policies.model.plan import Plan


class NotExpressible(Exception):  # noqa: N818  (a fact about a rung)
    """The upstream cannot be asked for this."""


def prepare_calls(
    of: MachineAttempt,
    *,
    request: InferenceRequest,
    plan: Plan,
    principal: Principal,
    lengths: Sequence[int],
    told: Sequence[EmittedChoice],
    settings: UpstreamSettings,
    tokenizer: Tokenizer | None,
    limits: EngineLimits,
    delivery: Delivery,
    numbers: "count[int]",
) -> tuple[Attempt, list[Delta]]:
    """The attempt, and what can be said before it begins: ends that the client has not been told of.

    `lengths`: tokens of each prompt, as far as we know; `tokenizer`: the one that it shares with an engine. Raises
    TooLongHere and NotExpressible.
    """
    goes_on = bool(of.wanted.prefix) or of.wanted.from_text
    if goes_on and (request.body.tools is not None or request.body.grammar is not None):
        raise NotExpressible("an answer that has begun cannot be bound to a form, nor be read for tool calls")
    if request.body.truncate_prompt_tokens is not None:
        raise NotExpressible("truncate_prompt_tokens counts tokens as an engine reads them")
    calls: list[UpstreamCall] = []
    choices: dict[int, int] = {}
    ended: list[Delta] = []
    for index, was_told in enumerate(told):
        if was_told.finished:
            continue
        params = params_of(request, plan, index % request.body.n, lengths[index // request.body.n], limits)
        limit = params.max_tokens if request.body.params.max_tokens or plan.output_cap is not None else None
        if limit is None and limits.max_model_len >= UNBOUNDED:
            params = msgspec.structs.replace(params, max_tokens=UNSAID_TOKENS)
        prompt, begun = request.body.prompts[index // request.body.n], ""
        if goes_on:
            if limit is not None and was_told.tokens >= limit:
                ended.append(Delta(index, "", (), (), "length"))
                continue
            limit = None if limit is None else limit - was_told.tokens
            params = _params_after(params, was_told.tokens)
            token_ids = of.wanted.prefix[index] if of.wanted.prefix else ()
            prompt, begun = _after(prompt, "".join(was_told.texts), token_ids, tokenizer)
        number = next(numbers)
        call = UpstreamCall(
            sequence_id=number,
            model=settings.model or request.model,
            prompt=prompt,
            params=params,
            grammar=request.body.grammar,
            begun=begun,
            limit=limit,
            written=request.body.written,
        )
        if (why := why_not(call, settings)) is not None:
            raise NotExpressible(why)
        choices[number] = index
        calls.append(call)
    prompt_tokens = sum([lengths[index // request.body.n] + told[index].tokens for index in choices.values()])
    job = Job(
        job_id=next(numbers),
        engine=of.rung,
        tenant=principal.line,
        prompt_tokens=prompt_tokens,
        tokens=prompt_tokens + sum([each.params.max_tokens for each in calls]),
        bytes=request.body_bytes,
        deadline=of.wanted.deadline,
        wait_s=plan.queue_s,
        goes_on=goes_on,
        sequences=tuple(calls),
        delivery=delivery,
    )
    assembly = OutputAssembly(choices, call_prefix=f"call_{request.request_id}_")
    model = settings.model or request.model
    return Attempt(of, job, assembly, whole_in_engine=True, model=model), ended


def _after(prompt: Prompt, text: str, token_ids: tuple[int, ...], tokenizer: Tokenizer | None) -> tuple[Prompt, str]:
    """Where the answer goes on: after the text that the client has; after a prompt of token ids, after the tokens."""
    if not isinstance(prompt, TokenPrompt):
        return prompt, text
    if tokenizer is None or tokenizer.decode(token_ids) != text:
        # Half a character, or what may become a stop string: tokens whose text the client has not seen.
        raise NotExpressible("the answer cannot be gone on with after these tokens")
    return TokenPrompt(prompt.token_ids + token_ids), ""


def _params_after(params: SamplingParams, released: int) -> SamplingParams:
    """The upstream still looks for the stop strings: what it goes on after holds no part of one."""
    return msgspec.structs.replace(
        params, max_tokens=max(params.max_tokens - released, 1), min_tokens=max(params.min_tokens - released, 0)
    )
