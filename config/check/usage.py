"""Warns about definitions that are not used, which may be due to a wrong name elsewhere."""

from collections.abc import Iterator

from config.check.conditions.space import located, nested
from config.check.names import flat, ladder_of, reached_rungs
from config.model.settings import Settings
from config.problems.problems import Problems


def check_usage(settings: Settings, problems: Problems) -> None:
    """Report unused engines, upstreams, ladders, cascades and signals, if these tables have no errors."""
    rungs: set[str] = {shadow.to for shadow in settings.shadows}
    ladders: set[str] = set()
    for route in settings.routes:
        rungs |= set(reached_rungs(settings, route))
        ladder = ladder_of(settings, route)
        if ladder is not None:
            ladders |= {ladder, *(str(path[1]) for path, _ in flat(settings, ladder))}
    # A definition may be used by an experiment's arm only.
    in_arms = {word for experiment in settings.experiments for word in _words(experiment.override)}
    rungs |= in_arms
    ladders |= in_arms
    signals = {used for path, whole in located(settings) for _, when in nested(path, whole) for used in when.signal}
    signals |= {cascade.when_busy.signal for cascade in settings.cascades.values() if cascade.when_busy is not None}
    cascades = {route.use.cascade for route in settings.routes}
    cascades |= in_arms
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


def _words(value: object) -> Iterator[str]:
    """All strings in an override, and all steps of its dotted keys."""
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield from key.split(".")
                yield from _words(inner)
        case list():
            for inner in value:
                yield from _words(inner)
