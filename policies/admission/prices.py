"""What tokens cost."""

from collections.abc import Iterable, Mapping

from config.model.tenancy import Price
from policies.cascade.verified import most_drafted
from policies.model.plan import Plan, PlannedRung

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
    """The most that a request can cost under its plan: the stages that its cascade may ask, and the dearest rung.

    Attempts that fail are on the service, so that retries and fallbacks add nothing.
    """

    def most(rung: PlannedRung, made_tokens: int = output_tokens) -> float:
        return _worst(prices.get(rung.to or ""), prompt_tokens, made_tokens)

    cascade = plan.cascade
    last = max(map(most, plan.rungs), default=0.0)
    if cascade is None:
        return last
    if cascade.drafts:
        drafted = most_drafted(output_tokens, cascade.draft_tokens)
        return most(cascade.small, drafted) + max(most(cascade.large), last)
    first = cascade.small if cascade.start_on == "small" else cascade.large
    if first is cascade.large or not cascade.may_escalate:
        return max(most(first), last)
    return most(cascade.small) + max(most(cascade.large), last)


def _worst(price: Price | None, prompt_tokens: int, output_tokens: int) -> float:
    """Whatever the prefix cache supplies, and wherever the rung takes up what another one has begun."""
    if price is None:
        return 0.0
    read = max(price.input, price.input if price.cached_input is None else price.cached_input)
    return (prompt_tokens * read + output_tokens * max(price.output, price.input)) / _MILLION
