"""What tokens cost."""

from collections.abc import Iterable, Mapping

from config.who import Price
from policies.plan import Plan

_MILLION = 1_000_000


def cost_of(price: Price | None, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
    """Money for one attempt; `cached_tokens` are those of the prompt that the prefix cache supplied. No price: 0."""
    if price is None:
        return 0.0
    cached = price.input if price.cached_input is None else price.cached_input
    fresh = prompt_tokens - cached_tokens
    return (fresh * price.input + cached_tokens * cached + completion_tokens * price.output) / _MILLION


def cheapest(prices: Mapping[str, Price], rungs: Iterable[str]) -> str | None:
    """The rung with the lowest output price, then input price; the first of equals. None of none."""

    def key(rung: str) -> tuple[float, float]:
        price = prices.get(rung)
        return (price.output, price.input) if price is not None else (0.0, 0.0)

    return min(rungs, key=key, default=None)


def worst_cost(prices: Mapping[str, Price], plan: Plan, prompt_tokens: int, output_tokens: int) -> float:
    """The most that a request can cost under its plan: both stages of a cascade, and the dearest rung of the ladder.

    Attempts that fail are on the house, so that retries and fallbacks add nothing.
    """
    ladder = [cost_of(prices.get(rung.to), prompt_tokens, output_tokens) for rung in plan.rungs if rung.to is not None]
    last = max(ladder, default=0.0)
    if plan.cascade is None:
        return last
    small, large = (
        cost_of(prices.get(stage.to or ""), prompt_tokens, output_tokens)
        for stage in (plan.cascade.small, plan.cascade.large)
    )
    return small + max(large, last)
