"""Routes and signals that never hold, routes behind others that take all of their requests, models without a route."""

from config.check.conditions.formula import TRUE, Effort, Formula, can_hold
from config.check.conditions.sieve import Sieve, box_of
from config.check.conditions.space import Space, nested
from config.check.names import circles
from config.model.conditions import SignalSettings
from config.model.settings import Settings
from config.problems.problems import Problems
from config.problems.source_map import Path
from config.tenants import known_tenants

_DECIDING = ("routes", "signals", "models", "tenants", "tiers", "keys")
_NAMED = 5
"""Routes that one warning names."""


def check_reach(settings: Settings, problems: Problems) -> None:
    """See the module. A condition with an error in it may hold or not: nothing follows from it.

    What is impossible whatever models and tenants there are is an error; what only those of the file make so may
    change with the next one, and is a warning.
    """
    if problems.is_broken(("routes",)):
        return
    _check_tiers(settings, problems)
    space = Space(settings, problems, as_it_is=False)
    _check_signals(settings, space, problems)
    _check_skips(settings, space, problems)
    today = Space(settings, problems)
    _check_models(settings, today, problems)
    _check_routes(settings, space, today, problems)


def _check_routes(settings: Settings, space: Space, today: Space, problems: Problems) -> None:
    effort = Effort()
    others, others_today = Sieve(space.domains, effort), Sieve(today.domains, effort)
    for index, route in enumerate(settings.routes):
        path: Path = ("routes", index, "when")
        mine, mine_today = space.formula(path, route.when), today.formula(path, route.when)
        if can_hold([mine], space.domains) is False:
            problems.add(path, f"the condition of '{route.name}' never holds")
        else:
            _check_members(path, route.when, space, problems)
            if not _is_shadowed(settings, index, mine, others, problems):
                _check_today(settings, index, mine_today, others_today, problems)
        others.add(mine)
        others_today.add(mine_today)
    _check_hole(settings, others_today, today, problems)


def _check_hole(settings: Settings, routes: Sieve, today: Space, problems: Problems) -> None:
    """Requests of the file's own tenants for its own models that come through all of the conditions."""
    if not settings.routes or any(problems.is_touched((table,)) for table in _DECIDING):
        return
    point = routes.left_for(TRUE)
    if point is not None and point is not False:
        problems.warn(
            ("routes",),
            f"no route takes some requests, and they are refused with 'no_route', such as {today.example(point)}",
            expected="a last route without `when`, or one for these",
            at_key=True,
        )


def _is_shadowed(settings: Settings, index: int, mine: Formula, others: Sieve, problems: Problems) -> bool:
    """By one route, which is then named, or by several together."""
    if others.left_for(mine) is not False:
        return False
    taker = others.first_taker(mine)
    if taker is None:
        _say_covered(settings, index, mine, others, problems)
        return True
    everything = others.takes_everything(taker)
    problems.add(
        ("routes", index),
        f"the route '{settings.routes[index].name}' is never reached: '{settings.routes[taker].name}' above takes "
        + ("every request" if everything else "all of its requests"),
        expected="the unconditional route to be the last" if everything else "the more special route first",
    )
    return True


def _check_today(settings: Settings, index: int, mine: Formula, others: Sieve, problems: Problems) -> None:
    name = settings.routes[index].name
    if others.never(mine):
        problems.warn(
            ("routes", index, "when"), f"the condition of '{name}' holds for no model and tenant that the file defines"
        )
    elif others.left_for(mine) is False:
        _say_covered(settings, index, mine, others, problems)


def _say_covered(settings: Settings, index: int, mine: Formula, others: Sieve, problems: Problems) -> None:
    names = [f"'{settings.routes[each].name}'" for each in others.needed(mine)]
    named = " and ".join([*names[:_NAMED], *([f"{len(names) - _NAMED} more"] if len(names) > _NAMED else [])])
    problems.warn(
        ("routes", index),
        f"the route '{settings.routes[index].name}' is never reached: {named} above "
        f"{'takes' if len(names) == 1 else 'take'} all that is left of its requests",
    )


def _check_signals(settings: Settings, space: Space, problems: Problems) -> None:
    """Those first that others use, so that a fault is told where it is."""
    uses = {
        name: [used for _, when in nested((), signal) for used in when.signal]
        for name, signal in settings.signals.items()
    }
    if circles(uses):
        order = list(uses)
    else:
        order = []

        def visit(name: str) -> None:
            if name not in order and name in uses:
                for used in uses[name]:
                    visit(used)
                order.append(name)

        for name in uses:
            visit(name)
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


def _check_members(path: Path, whole: SignalSettings, space: Space, problems: Problems) -> None:
    """A choice with an alternative that cannot be."""
    for place, when in nested(path, whole):
        if place == path or place[-2] != "any":
            continue
        if can_hold([space.formula(place, when)], space.domains) is False:
            problems.warn(place, "this alternative never holds")


def _check_tiers(settings: Settings, problems: Problems) -> None:
    tenants = known_tenants(settings).values()
    inhabited = {tenant.tier for tenant in tenants}
    inhabited |= {tenant.budget.downgrade_to for tenant in tenants if tenant.budget and tenant.budget.downgrade_to}
    for tier in settings.tiers:
        if tier not in inhabited and not problems.is_touched(("tenants",)):
            problems.warn(("tiers", tier), f"no tenant is in the tier '{tier}'", at_key=True)


def _check_models(settings: Settings, space: Space, problems: Problems) -> None:
    """Most routes ask for some models, or for none: only what else they say is worth a search."""
    takes = [space.formula(("routes", index, "when"), route.when) for index, route in enumerate(settings.routes)]
    served = 0
    others = Sieve(space.domains, Effort())
    for formula in takes:
        box, is_whole = box_of(formula, space.domains)
        if not is_whole:
            others.add(formula)
        elif all(box.values()):
            served |= box.get("model", space.domains["model"])
    for model in settings.models if takes else ():
        asked = space.model(model)
        if not asked.values & served and not others.can_meet(asked):
            problems.add(
                ("models", model),
                f"no route can serve the model '{model}'",
                expected=f'a route with when = {{ model = ["{model}"] }}, or one for every request',
                at_key=True,
            )
