"""Budgets that can be spent, and that are enough for at least one request."""

from config.check.conditions.formula import Formula, Within, can_hold
from config.check.conditions.sieve import box_of
from config.check.conditions.space import Space
from config.check.names import reached_rungs, rungs_of
from config.model.settings import Settings
from config.problems.problems import Problems
from config.problems.source_map import Path

_MILLION = 1_000_000


def check_budgets(settings: Settings, problems: Problems) -> None:
    """See the module."""
    with_budget = {name: tenant.budget for name, tenant in settings.tenants.items() if tenant.budget is not None}
    if not with_budget or any(problems.is_broken((table,)) for table in ("routes", "ladders", "cascades", "prices")):
        return
    space = Space(settings, problems)
    reached = _Reached(settings, space)
    known = set(rungs_of(settings))
    for name, budget in with_budget.items():
        rungs = reached.by(space.tenant(name))
        good = [each for each in rungs if each in known and not problems.is_touched(("prices", each))]
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


class _Reached:
    """Who reaches which rungs. Thousands of routes mostly lead to a few ladders."""

    def __init__(self, settings: Settings, space: Space) -> None:
        self._domains = space.domains
        self._who: dict[tuple[str, ...], int] = {}
        """By what a route may use: whom its condition, if it is that simple, takes."""
        self._others: dict[tuple[str, ...], list[Formula]] = {}
        for index, route in enumerate(settings.routes):
            rungs = tuple(reached_rungs(settings, route))
            formula = space.formula(("routes", index, "when"), route.when)
            box, is_whole = box_of(formula, space.domains)
            if not is_whole:
                self._others.setdefault(rungs, []).append(formula)
            elif all(box.values()):
                self._who[rungs] = self._who.get(rungs, 0) | box.get("who", space.domains["who"])

    def by(self, who: Within) -> list[str]:
        """In the order of the routes that lead there."""
        found: dict[str, None] = {}
        for rungs, takes in self._who.items():
            if takes & who.values:
                found |= dict.fromkeys(rungs)
        for rungs, formulas in self._others.items():
            if not found.keys() >= set(rungs) and any(
                can_hold([who, formula], self._domains) is not False for formula in formulas
            ):
                found |= dict.fromkeys(rungs)
        return list(found)


def _least_cost(settings: Settings, rung: str) -> float:
    """Of one token in and one token out."""
    price = settings.prices.get(rung)
    if price is None:
        return 0.0
    cached = price.input if price.cached_input is None else price.cached_input
    return (min(price.input, cached) + price.output) / _MILLION
