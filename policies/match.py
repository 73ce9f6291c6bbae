"""The first route whose condition holds, with reasons that print.

A condition becomes a `Test`: two closures over the request's features and the live load. `holds` decides; `facts` says
the true statements that decided it ("model is small", "prompt_tokens 9000 >= 4000"), whichever way it went.
"""

from collections.abc import Callable, Mapping

import msgspec

from config.settings import LoadCondition, Range, RouteSettings, Settings, SignalSettings
from policies.errors import NoRoute
from policies.features import Features
from policies.load import Load

Holds = Callable[[Features, Load], bool]
Facts = Callable[[Features, Load], tuple[str, ...]]
Measure = Callable[[Features, Load], float | None]


class Matched(msgspec.Struct, frozen=True, gc=False):
    """The route that takes the request."""

    index: int
    """Of the route in the settings."""
    route: str
    reasons: tuple[str, ...]


class Test(msgspec.Struct, frozen=True):
    """A compiled condition."""

    __test__ = False  # pytest takes the name for its own

    holds: Holds
    facts: Facts


class Matcher:
    """All routes, compiled. Immutable; what depends on the model's name alone was decided when it was made."""

    def __init__(self, routes: tuple[RouteSettings, ...], compile_condition: Callable[[SignalSettings], Test]) -> None:
        compiled = tuple((index, route, compile_condition(route.when)) for index, route in enumerate(routes))
        models = {model for route in routes for model in route.when.model}
        self._for_model = {
            model: tuple((i, r.name, test) for i, r, test in compiled if not r.when.model or model in r.when.model)
            for model in models
        }
        self._for_others = tuple((i, r.name, test) for i, r, test in compiled if not r.when.model)

    def match(self, features: Features, load: Load) -> Matched:
        """The first route that takes the request; NoRoute if none does."""
        for index, name, test in self._for_model.get(features.model, self._for_others):
            if test.holds(features, load):
                return Matched(index, name, test.facts(features, load))
        raise NoRoute(features.model)


def compile_routes(settings: Settings) -> Matcher:
    """The settings' routes; the settings must have passed `config.check`."""
    return Matcher(settings.routes, condition_compiler(settings))


def condition_compiler(settings: Settings) -> Callable[[SignalSettings], Test]:
    """Compiles conditions that may name the settings' signals; each signal is compiled once."""
    slo_ttft_s = {name: float(tier.slo.ttft) for name, tier in settings.tiers.items()}
    signals: dict[str, Test] = {}

    def signal(name: str) -> Test:
        if name not in signals:
            signals[name] = _named(name, compile_condition(settings.signals[name]))
        return signals[name]

    def compile_condition(when: SignalSettings) -> Test:
        tests: list[Test] = []
        if when.model:
            tests.append(_one_of("model", when.model, lambda f: f.model))
        if when.tenant:
            tests.append(_one_of("tenant", when.tenant, lambda f: f.tenant))
        if when.tier:
            tests.append(_one_of("tier", when.tier, lambda f: f.tier))
        if when.tag:
            tests.append(_tagged(when.tag))
        if when.prompt_tokens is not None:
            tests.append(_in_range("prompt_tokens", when.prompt_tokens, lambda f, _: f.prompt_tokens))
        if when.complexity is not None:
            tests.append(_in_range("complexity", when.complexity, lambda f, _: f.complexity))
        if when.load is not None:
            tests.extend(_loaded(when.load, slo_ttft_s))
        if when.signal:
            tests.append(_any_of([signal(name) for name in when.signal]))
        if when.any:
            tests.append(_any_of([compile_condition(member) for member in when.any]))
        tests.extend(compile_condition(member) for member in when.all)
        if when.not_ is not None:
            tests.append(_negated(compile_condition(when.not_)))
        return _all_of(tests)

    return compile_condition


def measure_of(condition: LoadCondition, slo_ttft_s: Mapping[str, float]) -> Measure:
    """The one number that a condition on the load looks at; None while nothing is known of the engine."""
    engine = condition.of
    if condition.kv_usage is not None:

        def kv_usage(features: Features, load: Load) -> float | None:
            found = load.engines.get(engine)
            return None if found is None else found.kv_usage

        return kv_usage

    def wait_over_slo(features: Features, load: Load) -> float | None:
        found = load.engines.get(engine)
        promise = slo_ttft_s.get(features.tier)
        return None if found is None or not promise else found.expected_wait_s / promise

    return wait_over_slo


def _one_of(word: str, names: tuple[str, ...], get: Callable[[Features], str]) -> Test:
    allowed = frozenset(names)

    def holds(features: Features, load: Load) -> bool:
        return get(features) in allowed

    def facts(features: Features, load: Load) -> tuple[str, ...]:
        value = get(features)
        return (f"{word} is {value}",) if value in allowed else (f"{word} is {value}, not {' or '.join(names)}",)

    return Test(holds, facts)


def _tagged(tags: tuple[str, ...]) -> Test:
    wanted = frozenset(tags)

    def holds(features: Features, load: Load) -> bool:
        return not wanted.isdisjoint(features.tags)

    def facts(features: Features, load: Load) -> tuple[str, ...]:
        found = [tag for tag in tags if tag in features.tags]
        return (f"tagged {found[0]}",) if found else (f"not tagged {' or '.join(tags)}",)

    return Test(holds, facts)


def _in_range(word: str, bounds: Range, measure: Measure) -> Test:
    low = bounds.at_least if bounds.at_least is not None else float("-inf")
    high = bounds.below if bounds.below is not None else float("inf")

    def holds(features: Features, load: Load) -> bool:
        value = measure(features, load)
        return value is not None and low <= value < high

    def facts(features: Features, load: Load) -> tuple[str, ...]:
        value = measure(features, load)
        if value is None:
            return (f"{word} is unknown",)
        shown = f"{word} {value:.6g}"
        if value < low:
            return (f"{shown} < {low:g}",)
        if value >= high:
            return (f"{shown} >= {high:g}",)
        parts = []
        if bounds.at_least is not None:
            parts.append(f"{shown} >= {low:g}")
        if bounds.below is not None:
            parts.append(f"{shown} < {high:g}")
        return tuple(parts)

    return Test(holds, facts)


def _loaded(condition: LoadCondition, slo_ttft_s: Mapping[str, float]) -> list[Test]:
    tests = []
    for word in ("queue_wait_over_slo", "kv_usage"):
        bounds: Range | None = getattr(condition, word)
        if bounds is not None:
            single = LoadCondition(of=condition.of, **{word: bounds})
            tests.append(_in_range(f"{word} of {condition.of}", bounds, measure_of(single, slo_ttft_s)))
    return tests


def _named(name: str, test: Test) -> Test:
    def facts(features: Features, load: Load) -> tuple[str, ...]:
        state = "holds" if test.holds(features, load) else "does not hold"
        return (f"signal {name} {state}: {', '.join(test.facts(features, load))}",)

    return Test(test.holds, facts)


def _any_of(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]

    def holds(features: Features, load: Load) -> bool:
        return any(test.holds(features, load) for test in tests)

    def facts(features: Features, load: Load) -> tuple[str, ...]:
        for test in tests:
            if test.holds(features, load):
                return test.facts(features, load)
        return tuple(fact for test in tests for fact in test.facts(features, load))

    return Test(holds, facts)


def _all_of(tests: list[Test]) -> Test:
    if not tests:
        return Test(lambda _f, _l: True, lambda _f, _l: ("every request",))
    if len(tests) == 1:
        return tests[0]
    holds = _both([test.holds for test in tests])

    def facts(features: Features, load: Load) -> tuple[str, ...]:
        for test in tests:
            if not test.holds(features, load):
                return test.facts(features, load)
        return tuple(fact for test in tests for fact in test.facts(features, load))

    return Test(holds, facts)


def _both(parts: list[Holds]) -> Holds:
    """All of them. Pairs of closures cost a third of a generator, and this runs for every route of every request."""
    first, *others = parts
    if not others:
        return first
    rest = _both(others)
    return lambda features, load: first(features, load) and rest(features, load)


def _negated(test: Test) -> Test:
    return Test(lambda features, load: not test.holds(features, load), test.facts)
