"""What is defined and then used by nothing: probably a name that was meant elsewhere."""

from config.check.names import flat, ladder_of, reached_rungs
from config.check.space import located, nested
from config.problems import Problems
from config.settings import Settings


def check_usage(settings: Settings, problems: Problems) -> None:
    """Only warnings, and only of what is in good order otherwise."""
    rungs: set[str] = {shadow.to for shadow in settings.shadows}
    ladders: set[str] = set()
    for route in settings.routes:
        rungs |= set(reached_rungs(settings, route))
        ladder = ladder_of(settings, route)
        if ladder is not None:
            ladders |= {ladder, *(str(path[1]) for path, _ in flat(settings, ladder))}
    for experiment in settings.experiments:
        # An arm may use what nothing else does: it must not be called unused.
        words = str(experiment.override)
        rungs |= {name for name in (*settings.engines, *settings.upstreams) if name in words}
        ladders |= {name for name in settings.ladders if name in words}
    signals = {used for path, whole in located(settings) for _, when in nested(path, whole) for used in when.signal}
    signals |= {cascade.when_busy.signal for cascade in settings.cascades.values() if cascade.when_busy is not None}
    cascades = {route.use.cascade for route in settings.routes}
    cascades |= {name for name in settings.cascades for each in settings.experiments if name in str(each.override)}
    tables: tuple[tuple[str, str, set[str]], ...] = (
        ("engines", "engine", rungs),
        ("upstreams", "upstream", rungs),
        ("ladders", "ladder", ladders),
        ("cascades", "cascade", {name for name in cascades if name is not None}),
        ("signals", "signal", signals),
    )
    if any(problems.is_touched((table,)) for table, _, _ in tables) or problems.is_touched(("routes",)):
        return
    for table, kind, used in tables:
        for name in getattr(settings, table):
            if name not in used:
                problems.warn((table, name), f"nothing uses the {kind} '{name}'", at_key=True)
