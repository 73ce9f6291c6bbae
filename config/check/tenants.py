"""Checks tenants, their tiers and quotas, and that budgets can be spent and suffice for at least one request."""

from collections import Counter

from config.check.conditions.formula import Formula, Within, can_hold
from config.check.conditions.ordered_conditions import box_of
from config.check.conditions.space import Space
from config.check.names import known, reached_rungs, rungs_of
from config.model.settings import Settings
from config.problems.problems import Problems
from config.problems.source_map import Path
from config.tenants import ANONYMOUS, known_tenants

_MILLION = 1_000_000


def check_tenants(settings: Settings, problems: Problems) -> None:
    for name, tenant in known_tenants(settings).items():
        if name in settings.tenants:
            known(settings, ("tenants", name, "tier"), "tier", tenant.tier, problems)
        elif tenant.tier not in settings.tiers and not problems.is_broken(("tiers",)):
            problems.add_at_key(
                ("tiers",),
                f"without keys every client is the tenant '{ANONYMOUS}', whose tier '{tenant.tier}' does not exist",
                expected=f"[tiers.{tenant.tier}], or [tenants.{ANONYMOUS}] with a tier",
            )
    in_domain = Counter([tenant.cache_domain for tenant in settings.tenants.values()])
    for name, tenant in settings.tenants.items():
        path: Path = ("tenants", name)
        if tenant.cache_domain is not None and in_domain[tenant.cache_domain] == 1:
            problems.warn(
                (*path, "cache_domain"),
                f"no other tenant is in the domain '{tenant.cache_domain}': this has no effect",
                expected="the same domain for another tenant",
            )
        minute, day = tenant.tokens.per_minute, tenant.tokens.per_day
        if minute is not None and day is not None and day < minute:
            problems.add(
                (*path, "tokens", "per_day"),
                f"{day} tokens a day are fewer than the {minute} of one minute",
                expected=f"at least per_minute, {minute}",
            )
        budget = tenant.budget
        if budget is None:
            continue
        if budget.when_spent == "downgrade" and budget.downgrade_to is None:
            problems.add(
                (*path, "budget"),
                "when_spent is \"downgrade\", and 'downgrade_to' is missing",
                expected="the tier in which the tenant is served then",
            )
        if budget.downgrade_to is None:
            continue
        if not known(settings, (*path, "budget", "downgrade_to"), "tier", budget.downgrade_to, problems):
            continue
        if budget.when_spent != "downgrade":
            problems.warn(
                (*path, "budget", "downgrade_to"),
                f'this has no effect while when_spent is "{budget.when_spent}"',
                expected='when_spent = "downgrade"',
            )
        elif budget.downgrade_to == tenant.tier:
            problems.warn(
                (*path, "budget", "downgrade_to"),
                f"the tenant is in the tier '{tenant.tier}' anyway: nothing changes when the budget is spent",
            )
    if settings.tenants and not settings.keyed and set(settings.tenants) != {ANONYMOUS}:
        problems.warn_at_key(
            ("tenants",),
            f"there are no [[keys]]: every client is the tenant '{ANONYMOUS}'",
            expected="a key for each tenant, as `penstock keys new` makes them",
        )


def check_budgets(settings: Settings, problems: Problems) -> None:
    """Compare each budget with the prices of the rungs that its tenant can reach."""
    with_budget = {name: tenant.budget for name, tenant in settings.tenants.items() if tenant.budget is not None}
    if not with_budget or any(problems.is_broken((table,)) for table in ("routes", "ladders", "cascades", "prices")):
        return
    space = Space(settings, problems)
    reached = _Reached(settings, space)
    known = set(rungs_of(settings))
    for name, budget in with_budget.items():
        rungs = reached.by(space.from_principals(tenants=(name,)))
        valid = [rung for rung in rungs if rung in known and not problems.is_touched(("prices", rung))]
        costs = {rung: _min_cost(settings, rung) for rung in valid}
        if not costs:
            continue
        path: Path = ("tenants", name, "budget")
        free = [rung for rung, cost in costs.items() if cost == 0]
        if len(free) == len(costs):
            problems.add_at_key(
                path,
                f"the budget can never be spent: nothing that '{name}' can reach has a price",
                expected=f"[prices] for {', '.join(costs)}",
            )
            continue
        unpriced = [rung for rung in free if rung not in settings.prices]
        if unpriced:
            problems.warn_at_key(
                path,
                f"{', '.join(unpriced)} {'has' if len(unpriced) == 1 else 'have'} no price and "
                f"{'counts' if len(unpriced) == 1 else 'count'} as free",
                expected="a price for every rung that the tenant can reach",
            )
        min_cost = min(costs.values())
        if budget.amount < min_cost:
            refuses = budget.when_spent == "refuse"
            problems.add(
                (*path, "amount"),
                f"{budget.amount:g} is less than the cheapest request costs ({min_cost:g}): none is ever served",
                expected="a larger amount",
                severity="error" if refuses else "warning",
            )


class _Reached:
    """Which tenants can reach which rungs. Routes are grouped by their rungs: thousands of routes form a few groups."""

    def __init__(self, settings: Settings, space: Space) -> None:
        self._domains = space.domains
        self._principals: dict[tuple[str, ...], int] = {}
        """By rungs: the principals of routes whose condition is a box."""
        self._others: dict[tuple[str, ...], list[Formula]] = {}
        """By rungs: the conditions of the other routes."""
        for index, route in enumerate(settings.routes):
            rungs = tuple(reached_rungs(settings, route))
            formula = space.formula(("routes", index, "when"), route.when)
            box, is_exact = box_of(formula, space.domains)
            if not is_exact:
                self._others.setdefault(rungs, []).append(formula)
            elif all(box.values()):
                principals = box.get("principal", space.domains["principal"])
                self._principals[rungs] = self._principals.get(rungs, 0) | principals

    def by(self, tenant: Within) -> list[str]:
        reached: dict[str, None] = {}
        for rungs, principals in self._principals.items():
            if principals & tenant.values:
                reached |= dict.fromkeys(rungs)
        for rungs, formulas in self._others.items():
            if not reached.keys() >= set(rungs) and any(
                can_hold([tenant, formula], self._domains) is not False for formula in formulas
            ):
                reached |= dict.fromkeys(rungs)
        return list(reached)


def _min_cost(settings: Settings, rung: str) -> float:
    """The cost of one input and one output token."""
    price = settings.prices.get(rung)
    if price is None:
        return 0.0
    cached = price.input if price.cached_input is None else price.cached_input
    return (min(price.input, cached) + price.output) / _MILLION
