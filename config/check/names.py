"""Resolves names in the settings, and reports those that are not defined."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from config.model.conditions import SignalSettings
from config.model.routing import CascadeSettings, RouteSettings, RungSettings
from config.model.settings import Settings
from config.problems.problems import Problems
from config.problems.source_map import Path

LocatedRung = tuple[Path, RungSettings]


def emitting(settings: Settings) -> Iterator[tuple[Path, CascadeSettings]]:
    """All cascades, and for routes with an `emit` their cascade with that `emit`; with the place of the `emit`."""
    for name, cascade in settings.cascades.items():
        yield ("cascades", name), cascade
    for index, route in enumerate(settings.routes):
        used = settings.cascades.get(route.use.cascade or "")
        if route.emit is not None and used is not None:
            yield ("routes", index), msgspec.structs.replace(used, emit=route.emit)


def rungs_of(settings: Settings) -> list[str]:
    """The names of all engines and upstreams."""
    return [*settings.engines, *settings.upstreams]


def routes_of(routes: Iterable[RouteSettings], model: str) -> Iterator[int]:
    """The indexes of the routes that may take a request for this model, whatever its other features."""
    for index, route in enumerate(routes):
        if route.when.model and model not in route.when.model:
            continue
        yield index
        if msgspec.structs.replace(route.when, model=()) == SignalSettings():
            # This route takes every request for the model, so later ones are not reached.
            return


def serving(settings: Settings, model: str) -> Iterator[str]:
    """The engines and upstreams that may answer a request for this model, whatever its other features."""
    for index in routes_of(settings.routes, model):
        route = settings.routes[index]
        cascade = settings.cascades.get(route.use.cascade or "")
        yield from () if cascade is None else cascade.stages
        yield from [rung.to for _, rung in flat(settings, ladder_of(settings, route) or "") if rung.to is not None]


def known(settings: Settings, path: Path, kind: str, name: str, problems: Problems) -> bool:
    """Whether the table `kind`s has this entry. If not, it is reported."""
    table = getattr(settings, f"{kind}s")
    if name in table:
        return True
    if not problems.is_broken((f"{kind}s",)):
        problems.unknown_name(path, kind, name, table)
    return False


def known_rung(settings: Settings, path: Path, name: str, problems: Problems) -> bool:
    """Whether there is an engine or upstream of this name. If not, it is reported."""
    if name in settings.engines or name in settings.upstreams:
        return True
    if not (problems.is_broken(("engines",)) or problems.is_broken(("upstreams",))):
        problems.unknown_name(path, "engine or upstream" if settings.upstreams else "engine", name, rungs_of(settings))
    return False


def known_adapter(settings: Settings, path: Path, rung: str, name: str, problems: Problems) -> None:
    """Report an adapter that the engine `rung` does not have."""
    engine = settings.engines.get(rung)
    if engine is None:
        if rung in settings.upstreams:
            problems.add_at_key(
                path,
                f"'{rung}' is an upstream, and adapters are those of engines",
                expected="an [upstreams] entry of its own, whose `model` is the adapter's name there",
            )
        return
    if name not in engine.adapters and not problems.is_broken(("engines", rung)):
        if engine.adapters:
            problems.unknown_name(path, "adapter", name, engine.adapters)
        else:
            problems.add(
                path, f"the engine '{rung}' has no adapters", expected=f"[engines.{rung}.adapters.{name}] with its path"
            )


def known_routes(settings: Settings, path: Path, names: Sequence[str], problems: Problems) -> None:
    """Report an empty list of routes, and names that are unknown or repeated."""
    if not names:
        problems.add(path, "no route is named", expected="at least one")
        return
    all_routes = {route.name for route in settings.routes}
    for index, name in enumerate(names):
        if name not in all_routes and not may_be_route(settings, name, problems):
            problems.unknown_name((*path, index), "route", name, all_routes)
        elif name in names[:index]:
            problems.add((*path, index), f"the route '{name}' is named twice")


def may_be_route(settings: Settings, name: str, problems: Problems) -> bool:
    """Whether it may be the name of a route whose name could not be decoded."""
    unread = any(problems.is_broken(("routes", index, "name")) for index in range(len(settings.routes)))
    return unread and not problems.nearest(name, [route.name for route in settings.routes])


def check_distinct(table: str, kind: str, names: Iterable[str], problems: Problems) -> None:
    """Report empty and repeated names in a list of tables."""
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        path: Path = (table, index, "name")
        if not name.strip():
            problems.add(path, "the name is empty")
        elif seen[name] == 1:
            problems.add(path, f"the {kind} name '{name}' is given twice")
        seen[name] += 1


def flat(settings: Settings, name: str, seen: set[str] | None = None) -> Iterator[LocatedRung]:
    """A ladder's rungs, with those of the ladders that it refers to; a ladder that occurs again is skipped."""
    seen = set() if seen is None else seen
    if name in seen or name not in settings.ladders:
        return
    seen.add(name)
    for index, rung in enumerate(settings.ladders[name]):
        if rung.ladder is not None:
            yield from flat(settings, rung.ladder, seen)
        else:
            yield ("ladders", name, index), rung


def ladder_of(settings: Settings, route: RouteSettings) -> str | None:
    """The ladder that a route uses, for a cascade its `on_failure`; None if the cascade is unknown."""
    if route.use.cascade is None:
        return route.use.ladder
    cascade = settings.cascades.get(route.use.cascade)
    return None if cascade is None else cascade.on_failure


def reached_rungs(settings: Settings, route: RouteSettings) -> list[str]:
    """Engines and upstreams that may answer on a route, in the order in which they are tried."""
    cascade = settings.cascades.get(route.use.cascade or "")
    names = list(cascade.stages) if cascade is not None else []
    ladder = ladder_of(settings, route)
    names += [rung.to for _, rung in flat(settings, ladder or "") if rung.to is not None]
    return list(dict.fromkeys(names))


def cycles(uses: dict[str, list[str]]) -> list[tuple[str, ...]]:
    """The cycles of references, starting and ending with the name that is first in the alphabet."""
    done: set[str] = set()
    all_cycles: dict[tuple[str, ...], None] = {}

    def walk(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            cycle = trail[trail.index(name) :]
            start = cycle.index(min(cycle))
            all_cycles.setdefault((*cycle[start:], *cycle[:start], cycle[start]))
            return
        if name in done or name not in uses:
            return
        for used in uses[name]:
            walk(used, (*trail, name))
        done.add(name)

    for name in uses:
        walk(name, ())
    return list(all_cycles)
