"""Whether the parts of the settings fit together: names that exist, routes that can be reached, limits that fit."""

import re
from collections.abc import Iterable, Iterator

from config.check_upstreams import check_upstreams
from config.conditions import LoadCondition, SignalSettings
from config.problems import Problems
from config.reach import truth
from config.routing import BreakerSettings, RouteSettings
from config.settings import Settings
from config.source_map import Path
from config.table import Range
from config.tenants import ANONYMOUS, known_tenants

_KEY_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_HASH_DIGITS = 64
_STAGES = 2


def check_settings(settings: Settings, problems: Problems) -> None:
    """Report everything that does not fit."""
    _check_sizes(settings, problems)
    check_upstreams(settings, problems)
    _check_tenants(settings, problems)
    _check_keys(settings, problems)
    _check_ladders(settings, problems)
    _check_signal_cycles(settings, problems)
    for path, when in _conditions(settings):
        _check_condition(settings, path, when, problems)
    _check_cascades(settings, problems)
    _check_routes(settings, problems)


def _check_sizes(settings: Settings, problems: Problems) -> None:
    for table in ("engines", "models", "tiers", "routes"):
        if not getattr(settings, table) and not (table == "engines" and settings.upstreams):
            problems.add((table,), "nothing is defined", expected="at least one", at_key=True, breaks=True)
    for name, engine in settings.engines.items():
        if engine.max_step_tokens < engine.max_running:
            problems.add(
                ("engines", name, "max_step_tokens"),
                f"{engine.max_step_tokens} tokens of a step cannot hold one token of each running sequence",
                expected=f"at least max_running, {engine.max_running}",
            )


def _check_tenants(settings: Settings, problems: Problems) -> None:
    for name, tenant in known_tenants(settings).items():
        if tenant.tier in settings.tiers or problems.is_broken(("tiers",)):
            continue
        if name in settings.tenants:
            problems.unknown_name(("tenants", name, "tier"), "tier", tenant.tier, settings.tiers)
        else:
            problems.add(
                ("tiers",),
                f"without keys everybody is the tenant '{ANONYMOUS}', whose tier '{tenant.tier}' does not exist",
                expected=f"[tiers.{tenant.tier}], or [tenants.{ANONYMOUS}] with a tier",
                at_key=True,
            )


def _check_keys(settings: Settings, problems: Problems) -> None:
    ids: set[str] = set()
    hashes: set[str] = set()
    for index, key in enumerate(settings.keys):
        path: Path = ("keys", index)
        if not _KEY_ID.fullmatch(key.id):
            problems.add((*path, "id"), f"'{key.id}' is no key id", expected="1 to 64 letters, digits or hyphens")
        elif key.id in ids:
            problems.add((*path, "id"), f"the key id '{key.id}' is given twice")
        ids.add(key.id)
        if len(key.hash) != _HASH_DIGITS or not set(key.hash) <= set("0123456789abcdef"):
            problems.add(
                (*path, "hash"),
                "this is no SHA-256 of a key",
                expected=f"{_HASH_DIGITS} hex digits in lower case, as `penstock keys new` prints them",
            )
        elif key.hash in hashes:
            problems.add((*path, "hash"), "the same key is given twice")
        hashes.add(key.hash)
        if key.tenant not in settings.tenants:
            problems.unknown_name((*path, "tenant"), "tenant", key.tenant, settings.tenants)


def _check_ladders(settings: Settings, problems: Problems) -> None:
    breakers: dict[str, tuple[BreakerSettings, str]] = {}
    for name, ladder in settings.ladders.items():
        if not ladder:
            problems.add(("ladders", name), "a ladder needs at least one rung", expected=f"[[ladders.{name}]]")
        for index, rung in enumerate(ladder):
            path: Path = ("ladders", name, index)
            if (rung.to is None) == (rung.answer is None):
                got = "neither is given" if rung.to is None else "both are given"
                problems.add(path, f"a rung has exactly one of 'to' and 'answer'; {got}")
                continue
            if rung.to is None:
                if not rung.answer:
                    problems.add((*path, "answer"), "the answer is empty", expected="a sentence for the reader")
                if index + 1 < len(ladder):
                    problems.add(
                        ("ladders", name, index + 1), "this rung is never reached: the one above always answers"
                    )
                for word, given in (("retries", rung.retries), ("ttft", rung.ttft)):
                    if given:
                        problems.add((*path, word), f"a static answer has no {word}")
                continue
            if rung.to not in settings.engines and rung.to not in settings.upstreams:
                _unknown_rung(settings, (*path, "to"), rung.to, problems)
            if rung.breaker != BreakerSettings():
                other, place = breakers.setdefault(rung.to, (rung.breaker, f"ladders.{name}[{index}]"))
                if other != rung.breaker:
                    problems.add(
                        (*path, "breaker"),
                        f"the rung '{rung.to}' has one breaker, and {place} says something else of it",
                        expected="the same values, or to say it once",
                    )


def _check_signal_cycles(settings: Settings, problems: Problems) -> None:
    uses = {
        name: [used for _, when in _nested((), signal) for used in when.signal]
        for name, signal in settings.signals.items()
    }
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circle = trail[trail.index(name) :]
            # Tell each circle once, at the name that comes first in the alphabet.
            start = circle.index(min(circle))
            round_trip = (*circle[start:], *circle[:start], circle[start])
            problems.add(("signals", round_trip[0]), f"the signal uses itself: {' → '.join(round_trip)}", breaks=True)
            return
        if name in done or name not in uses:
            return
        for used in uses[name]:
            walk(used, (*trail, name))
        done.add(name)

    for name in uses:
        walk(name, ())


def _check_condition(settings: Settings, path: Path, when: SignalSettings, problems: Problems) -> None:
    named: tuple[tuple[str, str, tuple[str, ...], Iterable[str]], ...] = (
        ("model", "model", when.model, settings.models),
        ("tenant", "tenant", when.tenant, known_tenants(settings)),
        ("tier", "tier", when.tier, settings.tiers),
        ("signal", "signal", when.signal, settings.signals),
    )
    for field, kind, names, known in named:
        if problems.is_broken((f"{kind}s",)):
            continue
        for index, name in enumerate(names):
            if name not in known:
                problems.unknown_name((*path, field, index), kind, name, known)
    for field, bounds in (("prompt_tokens", when.prompt_tokens), ("complexity", when.complexity)):
        if bounds is not None:
            _check_range((*path, field), bounds, problems)
    if when.load is not None:
        _check_load(settings, (*path, "load"), when.load, problems)


def _check_range(path: Path, bounds: Range, problems: Problems) -> None:
    if bounds.at_least is None and bounds.below is None:
        problems.add(path, "the range has no bound", expected="at_least, below, or both")
    elif bounds.at_least is not None and bounds.below is not None and bounds.at_least >= bounds.below:
        problems.add(path, f"nothing is at least {bounds.at_least:g} and below {bounds.below:g}")


def _check_load(settings: Settings, path: Path, load: LoadCondition, problems: Problems) -> None:
    if load.of not in settings.engines and load.of not in settings.upstreams:
        _unknown_rung(settings, (*path, "of"), load.of, problems)
    measures = (("queue_wait_over_slo", load.queue_wait_over_slo), ("kv_usage", load.kv_usage))
    if all(bounds is None for _, bounds in measures):
        problems.add(path, "the condition measures nothing", expected="queue_wait_over_slo, kv_usage, or both")
    for field, bounds in measures:
        if bounds is not None:
            _check_range((*path, field), bounds, problems)


def _check_cascades(settings: Settings, problems: Problems) -> None:
    for name, cascade in settings.cascades.items():
        path: Path = ("cascades", name)
        if len(cascade.stages) != _STAGES:
            problems.add(
                (*path, "stages"), f"got {len(cascade.stages)}", expected="exactly two engines, smallest first"
            )
        elif cascade.stages[0] == cascade.stages[1]:
            problems.add((*path, "stages", 1), "both stages are the same", expected="two different ones")
        for index, stage in enumerate(cascade.stages):
            if stage not in settings.engines and stage not in settings.upstreams:
                _unknown_rung(settings, (*path, "stages", index), stage, problems)
        if cascade.on_failure not in settings.ladders and not problems.is_broken(("ladders",)):
            problems.unknown_name((*path, "on_failure"), "ladder", cascade.on_failure, settings.ladders)
        if cascade.when_busy is not None:
            _check_when_busy(settings, name, problems)


def _check_when_busy(settings: Settings, name: str, problems: Problems) -> None:
    cascade = settings.cascades[name]
    busy = cascade.when_busy
    assert busy is not None
    path: Path = ("cascades", name, "when_busy")
    if busy.stay_on not in cascade.stages:
        problems.unknown_name((*path, "stay_on"), "stage", busy.stay_on, cascade.stages)
    signal = settings.signals.get(busy.signal)
    if signal is None:
        if not problems.is_broken(("signals",)):
            problems.unknown_name((*path, "signal"), "signal", busy.signal, settings.signals)
        return
    if problems.is_broken(("signals", busy.signal)):
        return
    load = signal.load
    given = [bounds for bounds in (load.queue_wait_over_slo, load.kv_usage) if bounds is not None] if load else []
    if (
        signal != SignalSettings(load=load)
        or len(given) != 1
        or given[0].at_least is None
        or given[0].below is not None
    ):
        problems.add(
            (*path, "signal"),
            f"the signal '{busy.signal}' is more than one measure of the load",
            expected="a signal that is `load = { of = ..., MEASURE = { at_least = ... } }` and nothing else",
        )
    elif busy.release_at > given[0].at_least:
        problems.add(
            (*path, "release_at"),
            f"{busy.release_at:g} is above the signal's at_least, {given[0].at_least:g}",
            expected="a lower value, so that the switch does not flutter",
        )


def _check_routes(settings: Settings, problems: Problems) -> None:
    names: dict[str, int] = {}
    for index, route in enumerate(settings.routes):
        path: Path = ("routes", index)
        if not route.name.strip():
            problems.add((*path, "name"), "the name is empty")
        elif route.name in names:
            problems.add((*path, "name"), f"the route name '{route.name}' is given twice")
        names.setdefault(route.name, index)
        _check_use(settings, path, route, problems)
        if route.deadlines.ttft > route.deadlines.total:
            problems.add(
                (*path, "deadlines"),
                f"ttft ({route.deadlines.ttft:g} s) is later than total ({route.deadlines.total:g} s)",
                expected="total to be the longest",
            )
    if not any(_concerns_conditions(path) for path in problems.paths):
        _check_reach(settings, problems)


def _check_use(settings: Settings, path: Path, route: RouteSettings, problems: Problems) -> None:
    use = route.use
    if (use.cascade is None) == (use.ladder is None):
        got = "neither is given" if use.cascade is None else "both are given"
        problems.add((*path, "use"), f"a route uses exactly one of 'cascade' and 'ladder'; {got}")
        return
    if use.cascade is not None and use.cascade not in settings.cascades and not problems.is_broken(("cascades",)):
        problems.unknown_name((*path, "use", "cascade"), "cascade", use.cascade, settings.cascades)
    if use.ladder is not None and use.ladder not in settings.ladders and not problems.is_broken(("ladders",)):
        problems.unknown_name((*path, "use", "ladder"), "ladder", use.ladder, settings.ladders)


def _concerns_conditions(path: Path) -> bool:
    """Reachability follows from conditions: while one of them is wrong, nothing can be said of it."""
    match path:
        case ("signals" | "models", *_) | ("routes",) | ("routes", _) | ("routes", _, "when", *_):
            return True
    return False


def _check_reach(settings: Settings, problems: Problems) -> None:
    catch_all: str | None = None
    for index, route in enumerate(settings.routes):
        verdict = truth(route.when, settings.signals)
        if catch_all is not None:
            problems.add(
                ("routes", index),
                f"the route '{route.name}' is never reached: '{catch_all}' above takes every request",
                expected="the unconditional route to be the last",
            )
        elif verdict is False:
            problems.add(("routes", index, "when"), f"the condition of '{route.name}' never holds")
        elif verdict is True:
            catch_all = route.name
    for model in settings.models:
        if all(truth(route.when, settings.signals, model) is False for route in settings.routes):
            problems.add(
                ("models", model),
                f"no route can serve the model '{model}'",
                expected=f'a route with when = {{ model = ["{model}"] }}, or one for every request',
                at_key=True,
            )


def _conditions(settings: Settings) -> Iterator[tuple[Path, SignalSettings]]:
    for name, signal in settings.signals.items():
        yield from _nested(("signals", name), signal)
    for index, route in enumerate(settings.routes):
        yield from _nested(("routes", index, "when"), route.when)
    for name, cascade in settings.cascades.items():
        if cascade.skip_to_large is not None:
            yield from _nested(("cascades", name, "skip_to_large"), cascade.skip_to_large)


def _nested(path: Path, when: SignalSettings) -> Iterator[tuple[Path, SignalSettings]]:
    yield path, when
    for index, member in enumerate(when.any):
        yield from _nested((*path, "any", index), member)
    for index, member in enumerate(when.all):
        yield from _nested((*path, "all", index), member)
    if when.not_ is not None:
        yield from _nested((*path, "not"), when.not_)


def _unknown_rung(settings: Settings, path: Path, name: str, problems: Problems) -> None:
    if problems.is_broken(("engines",)) or problems.is_broken(("upstreams",)):
        return
    if settings.upstreams:
        problems.unknown_name(path, "engine or upstream", name, [*settings.engines, *settings.upstreams])
    else:
        problems.unknown_name(path, "engine", name, settings.engines)
