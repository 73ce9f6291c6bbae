"""Whether a cascade in mode "window" may hand out tokens before it has decided: what is out binds the large model."""

from collections.abc import Mapping

from policies.model.features import Features
from policies.model.plan import Plan, gated


def released_safely(plan: Plan, features: Features, prompt_tokens: int, max_model_len: Mapping[str, int]) -> Plan:
    """The plan, as a gate where a window would be a mistake; `prompt_tokens` are those of the longest prompt."""
    cascade = plan.cascade
    if cascade is None or cascade.mode != "window":
        return plan
    reason = _goes_too_far(plan, features, prompt_tokens, max_model_len)
    if reason is not None:
        return gated(plan, reason)
    # That is what the one model says that answers.
    if features.requirements.prompt_logprobs:
        return gated(plan, "the prompt's log-probabilities are asked for")
    # Half of an atomic answer is of no use to anybody.
    if features.requirements.bound_to in cascade.atomic:
        return gated(plan, f"the answer is atomic ({features.requirements.bound_to})")
    return plan


def _goes_too_far(plan: Plan, features: Features, prompt_tokens: int, max_model_len: Mapping[str, int]) -> str | None:
    """The large model must be able to go on after whatever the small one may have said."""
    cascade, asked = plan.cascade, features.max_tokens
    assert cascade is not None
    if cascade.start_on != "small" or not cascade.may_escalate:
        return None
    small, large = max_model_len.get(cascade.small.to or ""), max_model_len.get(cascade.large.to or "")
    if small is None or large is None:
        return None
    most = min([bound for bound in (asked, plan.output_cap) if bound] or [small - prompt_tokens])
    # What only the cap asks for is cut to what a model leaves.
    most = most if asked else min(most, small - prompt_tokens)
    if prompt_tokens + max(most, 1) <= large:
        return None
    return f"{cascade.large.to} holds {large} tokens, fewer than the answer may need"
