"""Finds routes and signals that never hold, routes that are shadowed by earlier ones, and models without a route."""

from graphlib import CycleError, TopologicalSorter

from config.check.conditions.formula import TRUE, Effort, Formula, can_hold
from config.check.conditions.ordered_conditions import OrderedConditions, box_of
from config.check.conditions.space import Space, nested, signal_uses
from config.model.conditions import SignalSettings
from config.model.settings import Settings
from config.problems.problems import Problems
from config.problems.source_map import Path
from config.tenants import known_tenants

_DECIDING = ("routes", "signals", "models", "tenants", "tiers", "keys")
_MAX_NAMED = 5


def check_reach(settings: Settings, problems: Problems) -> None:
    """Run all reachability checks. A condition that contains an error is treated as unknown.

    What is impossible for any models and tenants is an error. What is impossible only for those of the file may become
    possible when others are added, and is a warning.
    """
    if problems.is_broken(("routes",)):
        return
    _check_tiers(settings, problems)
    open_space = Space(settings, problems, closed=False)
    _check_signals(settings, open_space, problems)
    _check_skips(settings, open_space, problems)
    closed_space = Space(settings, problems)
    _check_models(settings, closed_space, problems)
    _check_routes(settings, open_space, closed_space, problems)


def _check_routes(settings: Settings, open_space: Space, closed_space: Space, problems: Problems) -> None:
    effort = Effort()
    earlier = OrderedConditions(open_space.domains, effort)
    earlier_closed = OrderedConditions(closed_space.domains, effort)
    for index, route in enumerate(settings.routes):
        path: Path = ("routes", index, "when")
        formula, formula_closed = open_space.formula(path, route.when), closed_space.formula(path, route.when)
        if can_hold([formula], open_space.domains) is False:
            problems.add(path, f"the condition of '{route.name}' never holds")
        else:
            _check_members(path, route.when, open_space, problems)
            if not _is_shadowed(settings, index, formula, earlier, problems):
                _check_closed(settings, index, formula_closed, earlier_closed, problems)
        earlier.add(formula)
        earlier_closed.add(formula_closed)
    _check_unrouted(settings, earlier_closed, closed_space, problems)


def _check_unrouted(settings: Settings, routes: OrderedConditions, space: Space, problems: Problems) -> None:
    if not settings.routes or any(problems.is_touched((table,)) for table in _DECIDING):
        return
    point = routes.left_for(TRUE)
    if point is not None and point is not False:
        problems.warn_at_key(
            ("routes",),
            f"no route takes some requests, and they are refused with 'no_route', such as {space.example(point)}",
            expected="a last route without `when`, or one for these",
        )


def _is_shadowed(
    settings: Settings, index: int, formula: Formula, earlier: OrderedConditions, problems: Problems
) -> bool:
    """Whether earlier routes take all requests of this one, which is reported."""
    if earlier.left_for(formula) is not False:
        return False
    taker = earlier.first_taker(formula)
    if taker is None:
        _warn_covered(settings, index, formula, earlier, problems)
        return True
    everything = earlier.takes_all(taker, TRUE)
    problems.add(
        ("routes", index),
        f"the route '{settings.routes[index].name}' is never reached: '{settings.routes[taker].name}' above takes "
        + ("every request" if everything else "all of its requests"),
        expected="the unconditional route to be the last" if everything else "the more specific route first",
    )
    return True


def _check_closed(
    settings: Settings, index: int, formula: Formula, earlier: OrderedConditions, problems: Problems
) -> None:
    """Warn if the route is not reached with the file's own models and tenants."""
    name = settings.routes[index].name
    if earlier.never(formula):
        problems.warn(
            ("routes", index, "when"), f"the condition of '{name}' holds for no model and tenant that the file defines"
        )
    elif earlier.left_for(formula) is False:
        _warn_covered(settings, index, formula, earlier, problems)


def _warn_covered(
    settings: Settings, index: int, formula: Formula, earlier: OrderedConditions, problems: Problems
) -> None:
    names = [f"'{settings.routes[position].name}'" for position in earlier.needed(formula)]
    more = len(names) - _MAX_NAMED
    named = " and ".join([*names[:_MAX_NAMED], *([f"{more} more"] if more > 0 else [])])
    problems.warn(
        ("routes", index),
        f"the route '{settings.routes[index].name}' is never reached: {named} above "
        f"{'takes' if len(names) == 1 else 'take'} all of its requests",
    )


def _check_signals(settings: Settings, space: Space, problems: Problems) -> None:
    """Check signals before those that use them, so that a fault is reported where it is."""
    uses = signal_uses(settings)
    try:
        order = [name for name in TopologicalSorter(uses).static_order() if name in uses]
    except CycleError:
        order = list(uses)
    for name in order:
        path: Path = ("signals", name)
        if can_hold([space.signal(name)], space.domains) is False:
            problems.add(path, f"the signal '{name}' never holds", breaks=True)
            space.forget(name)


def _check_skips(settings: Settings, space: Space, problems: Problems) -> None:
    for name, cascade in settings.cascades.items():
        path: Path = ("cascades", name, "skip_to_large")
        when = cascade.skip_to_large
        if when is not None and can_hold([space.formula(path, when)], space.domains) is False:
            problems.add(path, "the condition never holds")


def _check_members(path: Path, condition: SignalSettings, space: Space, problems: Problems) -> None:
    for place, when in nested(path, condition):
        is_member = place != path and place[-2] == "any"
        if is_member and can_hold([space.formula(place, when)], space.domains) is False:
            problems.warn(place, "this alternative never holds")


def _check_tiers(settings: Settings, problems: Problems) -> None:
    tenants = known_tenants(settings).values()
    used = {tenant.tier for tenant in tenants}
    used |= {tenant.budget.downgrade_to for tenant in tenants if tenant.budget and tenant.budget.downgrade_to}
    for tier in settings.tiers:
        if tier not in used and not problems.is_touched(("tenants",)):
            problems.warn_at_key(("tiers", tier), f"no tenant is in the tier '{tier}'")


def _check_models(settings: Settings, space: Space, problems: Problems) -> None:
    """Report models without a route. Most conditions are boxes, which need no search."""
    formulas = [space.formula(("routes", index, "when"), route.when) for index, route in enumerate(settings.routes)]
    served = 0
    others = OrderedConditions(space.domains, Effort())
    for formula in formulas:
        box, is_exact = box_of(formula, space.domains)
        if not is_exact:
            others.add(formula)
        elif all(box.values()):
            served |= box.get("model", space.domains["model"])
    for model in settings.models if formulas else ():
        requested = space.one_of("model", (model,))
        if not requested.values & served and not others.can_meet(requested):
            problems.add_at_key(
                ("models", model),
                f"no route can serve the model '{model}'",
                expected=f'a route with when = {{ model = ["{model}"] }}, or one for every request',
            )
