"""Checks routes: their names are distinct, and each uses one cascade or one ladder."""

from config.check.names import check_distinct, known
from config.model.settings import Settings
from config.problems.problems import Problems
from config.problems.source_map import Path


def check_routes(settings: Settings, problems: Problems) -> None:
    """Check all routes."""
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
