"""The cost of requests by the prices of `[prices]`, per million tokens."""

from collections.abc import Iterable, Mapping

from config.model.tenancy import Price
from policies.cascade.verified import max_drafted_tokens
from policies.model.plan import Plan, PlannedRung

_MILLION = 1_000_000


def cost_of(price: Price | None, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
    """Cost of one attempt, 0 without a price. `cached_tokens`: prompt tokens supplied by the prefix cache."""
    if price is None:
        return 0.0
    cached_price = price.input if price.cached_input is None else price.cached_input
    uncached_tokens = prompt_tokens - cached_tokens
    cost = uncached_tokens * price.input + cached_tokens * cached_price + completion_tokens * price.output
    return cost / _MILLION


def cheapest(prices: Mapping[str, Price], rungs: Iterable[str]) -> str | None:
    """The rung with the lowest output price, then the lowest input price, then the first. None if there are none."""
    free = Price(input=0.0, output=0.0)
    return min(rungs, key=lambda rung: (prices.get(rung, free).output, prices.get(rung, free).input), default=None)


def worst_cost(prices: Mapping[str, Price], plan: Plan, prompt_tokens: int, output_tokens: int) -> float:
    """The highest possible cost of a request under its plan: the cascade's stages and the most expensive rung.

    Failed attempts are not billed, so retries and fallbacks add nothing.
    """

    def rung_cost(rung: PlannedRung, tokens: int = output_tokens) -> float:
        return _max_attempt_cost(prices.get(rung.to or ""), prompt_tokens, tokens)

    cascade = plan.cascade
    ladder_cost = max(map(rung_cost, plan.rungs), default=0.0)
    if cascade is None:
        return ladder_cost
    if cascade.drafts:
        drafted = max_drafted_tokens(output_tokens, cascade.draft_tokens)
        return rung_cost(cascade.small, drafted) + max(rung_cost(cascade.large), ladder_cost)
    first = cascade.small if cascade.start_on == "small" else cascade.large
    if first is cascade.large or not cascade.may_escalate:
        return max(rung_cost(first), ladder_cost)
    return rung_cost(cascade.small) + max(rung_cost(cascade.large), ladder_cost)


def _max_attempt_cost(price: Price | None, prompt_tokens: int, output_tokens: int) -> float:
    """An upper bound: the dearer of cached and uncached input, and tokens continued from another rung at either price.

    A rung that continues an answer reads the tokens so far as input, instead of writing them as output.
    """
    if price is None:
        return 0.0
    input_price = max(price.input, price.input if price.cached_input is None else price.cached_input)
    return (prompt_tokens * input_price + output_tokens * max(price.output, price.input)) / _MILLION
