"""Budgets that can be spent, and that are enough for at least one request."""

from config.check.formula import can_hold
from config.check.names import reached_rungs, rungs_of
from config.check.space import Space
from config.problems import Problems
from config.settings import Settings
from config.source_map import Path

_MILLION = 1_000_000


def check_budgets(settings: Settings, problems: Problems) -> None:
    """See the module."""
    with_budget = {name: tenant.budget for name, tenant in settings.tenants.items() if tenant.budget is not None}
    if not with_budget or any(problems.is_broken((table,)) for table in ("routes", "ladders", "cascades", "prices")):
        return
    space = Space(settings, problems)
    takes = [space.formula(("routes", index, "when"), route.when) for index, route in enumerate(settings.routes)]
    for name, budget in with_budget.items():
        who = space.tenant(name)
        rungs: dict[str, None] = {}
        for route, formula in zip(settings.routes, takes, strict=True):
            if can_hold([who, formula], space.domains) is not False:
                rungs |= dict.fromkeys(reached_rungs(settings, route))
        good = [each for each in rungs if each in rungs_of(settings) and not problems.is_touched(("prices", each))]
        costs = {rung: _least_cost(settings, rung) for rung in good}
        if not costs:
            continue
        path: Path = ("tenants", name, "budget")
        free = [rung for rung, cost in costs.items() if cost == 0]
        if len(free) == len(costs):
            problems.add(
                path,
                f"the budget can never be spent: nothing that '{name}' can reach has a price",
                expected=f"[prices] for {', '.join(costs)}",
                at_key=True,
            )
            continue
        unpriced = [rung for rung in free if rung not in settings.prices]
        if unpriced:
            problems.warn(
                path,
                f"{', '.join(unpriced)} {'has' if len(unpriced) == 1 else 'have'} no price and "
                f"{'counts' if len(unpriced) == 1 else 'count'} as free",
                expected="a price for every rung that the tenant can reach",
                at_key=True,
            )
        least = min(costs.values())
        if budget.amount < least:
            refuses = budget.when_spent == "refuse"
            problems.add(
                (*path, "amount"),
                f"{budget.amount:g} is less than the cheapest request costs ({least:g}): none is ever served",
                expected="a larger amount",
                severity="error" if refuses else "warning",
            )


def _least_cost(settings: Settings, rung: str) -> float:
    """Of one token in and one token out."""
    price = settings.prices.get(rung)
    if price is None:
        return 0.0
    cached = price.input if price.cached_input is None else price.cached_input
    return (min(price.input, cached) + price.output) / _MILLION
