"""Checks routes: names, the one cascade or ladder that each uses, and deadlines.

Deadlines of rungs are compared with those of their routes, and both with the tiers' objectives.
"""

from config.check.names import check_distinct, flat, known, ladder_of
from config.model.routing import Deadlines, RouteSettings, RungSettings
from config.model.settings import Settings
from config.problems.problems import Problems
from config.problems.source_map import Path
from config.tenants import known_tenants


def check_routes(settings: Settings, problems: Problems) -> None:
    check_distinct("routes", "route", [route.name for route in settings.routes], problems)
    for index, route in enumerate(settings.routes):
        path: Path = ("routes", index, "use")
        use = route.use
        if (use.cascade is None) == (use.ladder is None):
            got = "neither is given" if use.cascade is None else "both are given"
            problems.add(path, f"a route uses exactly one of 'cascade' and 'ladder'; {got}")
        elif use.cascade is not None:
            known(settings, (*path, "cascade"), "cascade", use.cascade, problems)
        elif use.ladder is not None:
            known(settings, (*path, "ladder"), "ladder", use.ladder, problems)


def check_deadlines(settings: Settings, problems: Problems) -> None:
    users: dict[Path, tuple[RungSettings, list[RouteSettings]]] = {}
    for index, route in enumerate(settings.routes):
        _check_route(("routes", index, "deadlines"), route, problems)
        for path, rung in flat(settings, ladder_of(settings, route) or ""):
            routes = users.setdefault(path, (rung, []))[1]
            if route not in routes:
                routes.append(route)
    for path, (rung, routes) in users.items():
        longest = max(routes, key=lambda route: route.deadlines.ttft)
        if rung.wait_out >= longest.deadlines.ttft and not problems.is_broken((*path, "wait_out")):
            problems.warn(
                (*path, "wait_out"),
                f"{rung.wait_out:g} s is as long as the route '{longest.name}' waits for the first token "
                f"({longest.deadlines.ttft:g} s): the pause is never waited for",
                expected=f"less than {longest.deadlines.ttft:g} s",
            )
        if rung.ttft is not None and not problems.is_broken((*path, "ttft")):
            _check_attempts(path, rung, rung.ttft, longest, problems)
            if not problems.is_touched((*path, "ttft")):
                _check_objective(settings, path, rung.ttft, problems)


def _check_route(path: Path, route: RouteSettings, problems: Problems) -> None:
    times = route.deadlines
    if times.ttft > times.total:
        problems.add(
            path,
            f"ttft ({times.ttft:g} s) is later than total ({times.total:g} s)",
            expected="total to be the longest",
        )
    if times.queue is not None and times.queue > min(times.ttft, times.total):
        problems.add(
            (*path, "queue"),
            f"queue ({times.queue:g} s) is later than ttft ({times.ttft:g} s): no request waits that long",
            expected="a shorter wait than ttft",
        )
    if times.stall > times.total and times.stall != Deadlines().stall:
        problems.warn(
            path,
            f"stall ({times.stall:g} s) is longer than total ({times.total:g} s), and has no effect",
            expected="total to be the longest",
        )


def _check_attempts(path: Path, rung: RungSettings, ttft: float, longest: RouteSettings, problems: Problems) -> None:
    allowed = longest.deadlines.ttft
    attempts = rung.retries + 1
    if ttft > allowed:
        problems.add(
            (*path, "ttft"),
            f"{ttft:g} s is longer than the route '{longest.name}' waits for the first token ({allowed:g} s)",
            expected=f"at most {allowed:g} s, so that there is time for another rung",
        )
    elif attempts > 1 and attempts * ttft > allowed:
        problems.warn(
            (*path, "retries"),
            f"{attempts} attempts of {ttft:g} s do not fit into the {allowed:g} s of the route '{longest.name}'",
            expected="fewer retries, or a shorter ttft",
        )


def _check_objective(settings: Settings, path: Path, ttft: float, problems: Problems) -> None:
    _, name, index = path
    if index == len(settings.ladders[str(name)]) - 1:
        return  # there is no later rung that could still meet the objective
    tiers = {tenant.tier for tenant in known_tenants(settings).values()} & set(settings.tiers)
    strictest = min(tiers, key=lambda tier: settings.tiers[tier].slo.ttft, default=None)
    if strictest is not None and ttft > settings.tiers[strictest].slo.ttft:
        objective = settings.tiers[strictest].slo.ttft
        problems.warn(
            (*path, "ttft"),
            f"{ttft:g} s is longer than the TTFT objective of the tier '{strictest}' ({objective:g} s): "
            "the rungs below it come too late",
            expected=f"less than {objective:g} s, or another slo",
        )
