"""What names stand for, and what is said of those that stand for nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from config.model.routing import CascadeSettings, RouteSettings, RungSettings
from config.model.settings import Settings
from config.problems.problems import Problems
from config.problems.source_map import Path

LocatedRung = tuple[Path, RungSettings]


def emitting(settings: Settings) -> Iterator[tuple[Path, CascadeSettings]]:
    """Every cascade, and every route's own way to emit one, by the place of its `emit`."""
    for name, cascade in settings.cascades.items():
        yield ("cascades", name), cascade
    for index, route in enumerate(settings.routes):
        found = settings.cascades.get(route.use.cascade or "")
        if route.emit is not None and found is not None:
            yield ("routes", index), msgspec.structs.replace(found, emit=route.emit)


def rungs_of(settings: Settings) -> list[str]:
    """Engines and upstreams: what can answer."""
    return [*settings.engines, *settings.upstreams]


def known(settings: Settings, path: Path, kind: str, name: str, problems: Problems) -> bool:
    """Whether the table `kind`s has such an entry; if not, that is reported."""
    table = getattr(settings, f"{kind}s")
    if name in table:
        return True
    if not problems.is_broken((f"{kind}s",)):
        problems.unknown_name(path, kind, name, table)
    return False


def known_rung(settings: Settings, path: Path, name: str, problems: Problems) -> bool:
    """The same for an engine or an upstream."""
    if name in settings.engines or name in settings.upstreams:
        return True
    if not (problems.is_broken(("engines",)) or problems.is_broken(("upstreams",))):
        problems.unknown_name(path, "engine or upstream" if settings.upstreams else "engine", name, rungs_of(settings))
    return False


def known_adapter(settings: Settings, path: Path, rung: str, name: str, problems: Problems) -> None:
    """The same for an adapter of the engine `rung`."""
    engine = settings.engines.get(rung)
    if engine is None:
        if rung in settings.upstreams:
            problems.add(
                path,
                f"'{rung}' is an upstream, and adapters are those of engines",
                expected="an [upstreams] entry of its own, whose `model` is the adapter's name there",
                at_key=True,
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
    """Routes by name, at least one."""
    if not names:
        problems.add(path, "no route is named", expected="at least one")
        return
    every = {route.name for route in settings.routes}
    for index, name in enumerate(names):
        if name not in every and not may_be_route(settings, name, problems):
            problems.unknown_name((*path, index), "route", name, every)
        elif name in names[:index]:
            problems.add((*path, index), f"the route '{name}' is named twice")


def may_be_route(settings: Settings, name: str, problems: Problems) -> bool:
    """Whether it may be the name of a route whose name could not be read."""
    unread = any(problems.is_broken(("routes", index, "name")) for index in range(len(settings.routes)))
    return unread and not problems.nearest(name, [route.name for route in settings.routes])


def check_distinct(table: str, kind: str, names: Iterable[str], problems: Problems) -> None:
    """Names of a list of tables: each is something, and none is there twice."""
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        path: Path = (table, index, "name")
        if not name.strip():
            problems.add(path, "the name is empty")
        elif seen[name] == 1:
            problems.add(path, f"the {kind} name '{name}' is given twice")
        seen[name] += 1


def flat(settings: Settings, name: str, seen: set[str] | None = None) -> Iterator[LocatedRung]:
    """A ladder's rungs with those of the ladders that it goes on with, each ladder once: a second time is a fault."""
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
    """The ladder that a route ends on; None: none, or one that was reported."""
    if route.use.cascade is None:
        return route.use.ladder
    cascade = settings.cascades.get(route.use.cascade)
    return None if cascade is None else cascade.on_failure


def reached_rungs(settings: Settings, route: RouteSettings) -> list[str]:
    """Engines and upstreams that may answer on a route, in the order in which they would be asked."""
    cascade = settings.cascades.get(route.use.cascade or "")
    names = list(cascade.stages) if cascade is not None else []
    ladder = ladder_of(settings, route)
    names += [rung.to for _, rung in flat(settings, ladder or "") if rung.to is not None]
    return list(dict.fromkeys(names))


def circles(uses: dict[str, list[str]]) -> list[tuple[str, ...]]:
    """Each round trip that following the uses makes, told from the name that comes first in the alphabet."""
    done: set[str] = set()
    found: dict[tuple[str, ...], None] = {}

    def walk(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circle = trail[trail.index(name) :]
            start = circle.index(min(circle))
            found.setdefault((*circle[start:], *circle[:start], circle[start]))
            return
        if name in done or name not in uses:
            return
        for used in uses[name]:
            walk(used, (*trail, name))
        done.add(name)

    for name in uses:
        walk(name, ())
    return list(found)
