"""How much a request may need under its plan, by the engines' limits."""

from collections.abc import Mapping, Sequence

from actors.api.engine_status import BackendStatus
from actors.api.errors import InputTooLong, PromptTooLong
from actors.api.request import InferenceRequest
from actors.upstream.upstream_status import UNBOUNDED, UNSAID_TOKENS
from policies.model.plan import Plan, gated


def rungs_of(plan: Plan) -> tuple[str, ...]:
    """All rungs that may answer, the likeliest first."""
    stages = [] if plan.cascade is None else [plan.cascade.small.to, plan.cascade.large.to]
    names = [*stages, *(rung.to for rung in plan.rungs)]
    return tuple(dict.fromkeys([name for name in names if name is not None]))


def output_bound(
    request: InferenceRequest, plan: Plan, lengths: Sequence[int], all_published: Mapping[str, BackendStatus]
) -> int:
    """Output tokens of a choice at the most, on whatever rung; `lengths` are the prompts' in tokens.

    Raises InvalidRequest if no rung can take it.
    """
    limits = [
        published.limits.max_model_len
        for name in rungs_of(plan)
        if (published := all_published.get(name)) is not None and published.limits is not None
    ]
    asked = request.body.params.max_tokens
    cap = plan.output_cap
    asked_or_cap = min(asked, cap) if asked and cap is not None else asked
    if not limits:
        return asked_or_cap
    longest = max(limits)
    if request.body.embedding is not None:
        for index, length in enumerate(lengths):
            if length > longest:
                raise InputTooLong(model_tokens=longest, input_tokens=length, index=index)
        return 0
    for length in lengths:
        if length + (0 if request.body.params.prompt_only else max(asked_or_cap, 1)) > longest:
            raise PromptTooLong(
                model_tokens=longest,
                prompt_tokens=length,
                max_tokens=asked_or_cap,
                param=request.body.param,
            )
    # Asked for if nobody says how much: all that is left, or of an upstream of unknown length a fixed count.
    room = max(UNSAID_TOKENS if limit >= UNBOUNDED else limit - min(lengths) for limit in limits)
    return asked_or_cap or (min(cap, room) if cap is not None else room)


def without_a_release_too_far(
    plan: Plan, asked: int, prompt_tokens: int, all_published: Mapping[str, BackendStatus]
) -> Plan:
    """Window mode only if the large model can go on after whatever the small one may have said."""
    cascade = plan.cascade
    if cascade is None or cascade.mode != "window" or cascade.start_on != "small" or not cascade.may_escalate:
        return plan
    assert cascade.small.to is not None
    assert cascade.large.to is not None
    known = [
        all_published[stage].limits if stage in all_published else None
        for stage in (cascade.small.to, cascade.large.to)
    ]
    small, large = known
    if small is None or large is None:
        return plan
    most = min([bound for bound in (asked, plan.output_cap) if bound] or [small.max_model_len - prompt_tokens])
    # What only the cap asks for is cut to what a model leaves.
    most = most if asked else min(most, small.max_model_len - prompt_tokens)
    if prompt_tokens + max(most, 1) <= large.max_model_len:
        return plan
    return gated(plan, f"{cascade.large.to} holds {large.max_model_len} tokens, fewer than the answer may need")
