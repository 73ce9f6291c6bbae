"""Checks experiments (their arms, and the policy with each arm's overrides) and shadows."""

from collections.abc import Callable, Iterable

import msgspec

from config.check.names import check_distinct, flat, known_adapter, known_routes, known_rung
from config.model.rollout import CONTROL, ExperimentSettings, ShadowSettings
from config.model.routing import BreakerSettings, RungSettings, Target
from config.model.settings import Settings
from config.parse.override import apply_override, steps_of
from config.problems.problems import Problems, nearest
from config.problems.source_map import Path

_ALL = 100.0
_ROUNDING = 1e-6

Check = Callable[[Settings, Problems], None]


def check_experiments(settings: Settings, problems: Problems, check: Check) -> None:
    """`check` is run on the settings of every arm."""
    check_distinct("experiments", "experiment", [experiment.name for experiment in settings.experiments], problems)
    taken: dict[str, str] = {}
    affected = _AffectedParts(settings)
    for index, experiment in enumerate(settings.experiments):
        path: Path = ("experiments", index)
        known_routes(settings, (*path, "route"), experiment.route, problems)
        for number, route in enumerate(experiment.route):
            other = taken.setdefault(route, experiment.name)
            if other != experiment.name:
                problems.add(
                    (*path, "route", number),
                    f"the route '{route}' takes part in the experiment '{other}' already",
                    expected="each route in one experiment at the most",
                )
        _check_arms(path, experiment, problems)
        for arm in experiment.override:
            place: Path = (*path, "override", arm)
            changed = _check_override(place, settings, experiment, problems)
            if problems.is_touched(place) or changed == settings:
                continue
            keys = list(experiment.override[arm])
            if changed.ladders is settings.ladders and not _new_faults(
                affected.of(settings, keys), affected.of(changed, keys), check
            ):
                continue
            if len(keys) == 1:
                place = (*place, keys[0])
            for message, expected, suggestion in _new_faults(settings, changed, check):
                problems.add_at_key(place, f"with the arm '{arm}', {message}", expected=expected, suggestion=suggestion)


def check_shadows(settings: Settings, problems: Problems) -> None:
    check_distinct("shadows", "shadow", [shadow.name for shadow in settings.shadows], problems)
    for index, shadow in enumerate(settings.shadows):
        path: Path = ("shadows", index)
        known_routes(settings, (*path, "route"), shadow.route, problems)
        if known_rung(settings, (*path, "to"), shadow.to, problems):
            _check_copy((*path, "to"), settings, shadow, problems)
            if shadow.adapter is not None:
                known_adapter(settings, (*path, "adapter"), shadow.to, shadow.adapter, problems)


def _check_arms(path: Path, experiment: ExperimentSettings, problems: Problems) -> None:
    arms = experiment.arms
    if problems.is_broken((*path, "arms")):
        return
    if CONTROL not in arms:
        problems.add(
            (*path, "arms"),
            f"there is no arm '{CONTROL}'",
            expected=f"exactly one arm '{CONTROL}', to which the others are compared",
            suggestion=CONTROL if nearest(CONTROL, arms) else "",
        )
    if len(arms) < 2:
        problems.add((*path, "arms"), f"got {len(arms)}: there is nothing to compare", expected="at least two arms")
    for arm, percent in arms.items():
        if not 0 < percent <= _ALL:
            problems.add(
                (*path, "arms", arm),
                f"{percent:g} is out of range",
                expected="more than 0 to 100 percent",
                breaks=True,
            )
    total = sum(arms.values())
    # False for a NaN, which was reported above as out of range.
    if abs(total - _ALL) > _ROUNDING:
        problems.add((*path, "arms"), f"the arms add up to {total:g}", expected="100 percent")
    for arm in experiment.override:
        if arm not in arms:
            problems.add_at_key(
                (*path, "override", arm),
                f"there is no arm '{arm}'",
                expected=f"one of: {', '.join(sorted(arms))}",
                suggestion=nearest(arm, arms),
            )
        elif arm == CONTROL:
            problems.add_at_key((*path, "override", arm), "the arm 'control' overrides nothing", expected="another arm")
    idle = [arm for arm in arms if arm != CONTROL and not experiment.override.get(arm)]
    for arm in idle if CONTROL in arms else ():
        problems.warn_at_key((*path, "arms", arm), f"the arm '{arm}' overrides nothing, and is the same as '{CONTROL}'")


def _check_override(path: Path, settings: Settings, experiment: ExperimentSettings, problems: Problems) -> Settings:
    """The settings with the arm's overrides. Those that cannot be applied are reported."""
    arm = str(path[-1])
    overrides = experiment.override[arm]
    changed = settings
    for key, value in overrides.items():
        place: Path = (*path, key)
        match steps_of(key):
            case ["routes", _]:
                problems.add_at_key(place, "a whole route cannot be overridden", expected="a key of it")
                continue
            case ["routes", _, "name" | "when" | "owner" | "comment" as word, *_]:
                problems.add_at_key(
                    place,
                    f"'{word}' of a route cannot be overridden: it applies before an arm is chosen",
                    expected="another route for other requests",
                )
                continue
            case ["routes", route, *_] if route not in experiment.route:
                problems.warn_at_key(place, f"the route '{route}' takes no part in the experiment")
        before, changed = changed, apply_override(changed, key, value, problems, place)
        _check_kept(place, before, changed, problems)
    if changed == settings and not problems.is_touched(path):
        problems.warn_at_key(path, f"the arm '{arm}' changes nothing")
    return changed


def _check_kept(path: Path, before: Settings, after: Settings, problems: Problems) -> None:
    """Report an override of what all arms share: breakers, switches and controllers exist once, not for each arm."""
    for name, now in after.cascades.items():
        was = before.cascades[name]
        if now is was:
            continue
        elsewhere = f"another cascade with it, and \"routes.NAME.use\" = {{ cascade = ... }} in place of '{name}'"
        if now.when_busy != was.when_busy:
            problems.add_at_key(
                path, f"'when_busy' of the cascade '{name}' is the same in all arms", expected=elsewhere
            )
        if now.defer.calibration not in {None, was.defer.calibration}:
            problems.add_at_key(path, f"an arm cannot have its own calibration of '{name}'", expected=elsewhere)
        old, new = was.target or Target(), now.target or Target()
        if new.budget_per_day is not None and new != old:
            problems.add_at_key(
                path, f"the budget of the cascade '{name}' counts the money of all arms", expected=elsewhere
            )
        elif new.hold and not old.hold:
            problems.add_at_key(
                path, f"the share of the cascade '{name}' is held over all arms alike", expected=elsewhere
            )
    for name, rungs in after.ladders.items():
        ladder = before.ladders[name]
        if rungs is ladder:
            continue
        stated = {rung.to: rung.breaker for rung in ladder}
        for number, rung in enumerate(rungs):
            same_place = ladder[number].breaker if number < len(ladder) else BreakerSettings()
            if rung.breaker != stated.get(rung.to, same_place):
                problems.add_at_key(
                    path,
                    f"the breaker of '{rung.to}' is the same in all arms",
                    expected="its values in the ladder itself, or another engine or upstream for the arm",
                )


class _AffectedParts:
    """Selects the parts of a policy that an arm's overrides affect: checking only these is fast in a large policy."""

    def __init__(self, settings: Settings) -> None:
        self._by_name: dict[str, int] = {}
        self._by_cascade: dict[str, list[int]] = {}
        for number, route in enumerate(settings.routes):
            self._by_name[route.name] = number
            if route.use.cascade is not None:
                self._by_cascade.setdefault(route.use.cascade, []).append(number)

    def of(self, settings: Settings, keys: Iterable[str]) -> Settings:
        """The settings with only the routes and cascades that the keys name, the routes that use these, and ladders."""
        numbers: set[int] = set()
        cascades: set[str] = set()
        for key in keys:
            match steps_of(key):
                case ["routes", name, *_] if name in self._by_name:  # an unknown route was reported
                    numbers.add(self._by_name[name])
                case ["cascades", name, *_]:
                    cascades.add(name)
                    numbers.update(self._by_cascade.get(name, ()))
        routes = tuple([settings.routes[number] for number in sorted(numbers)])
        cascades |= {route.use.cascade for route in routes if route.use.cascade is not None}
        kept = {name: settings.cascades[name] for name in cascades if name in settings.cascades}
        todo = [cascade.on_failure for cascade in kept.values()]
        todo += [route.use.ladder for route in routes if route.use.ladder is not None]
        ladders: dict[str, tuple[RungSettings, ...]] = {}
        while todo:
            name = todo.pop()
            if name not in ladders and name in settings.ladders:
                ladders[name] = settings.ladders[name]
                todo += [rung.ladder for rung in ladders[name] if rung.ladder is not None]
        return msgspec.structs.replace(settings, routes=routes, cascades=kept, ladders=ladders)


def _new_faults(before: Settings, after: Settings, check: Check) -> list[tuple[str, str, str]]:
    """Errors of the settings with an arm's overrides that the settings without them do not have."""
    faults = []
    for settings in (before, after):
        unplaced = Problems.unplaced()
        check(settings, unplaced)
        faults.append(
            {
                (f"{problem.where}: {problem.message}", problem.expected, problem.suggestion): None
                for problem in unplaced
                if problem.severity == "error"
            }
        )
    return [fault for fault in faults[1] if fault not in faults[0]]


def _check_copy(path: Path, settings: Settings, shadow: ShadowSettings, problems: Problems) -> None:
    for route in settings.routes:
        if route.name not in shadow.route:
            continue
        cascade = settings.cascades.get(route.use.cascade or "")
        if cascade is not None:
            first = [(stage, cascade.adapters.get(stage)) for stage in cascade.stages][:1]
        else:
            first = [(rung.to or "", rung.adapter) for _, rung in flat(settings, route.use.ladder or "")][:1]
        if first == [(shadow.to, shadow.adapter)]:
            problems.warn(
                path,
                f"'{shadow.to}' is the first to answer on the route '{route.name}' anyway",
                expected="another rung",
            )
