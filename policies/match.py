"""The first route whose condition holds, with reasons that print."""

from collections.abc import Callable

import msgspec

from config.conditions import SignalSettings
from config.routing import RouteSettings
from config.settings import Settings
from policies.conditions import Finding, Test, condition_compiler
from policies.errors import NoRoute
from policies.features import Features
from policies.load import Load


class Matched(msgspec.Struct, frozen=True, gc=False):
    """The route that takes the request."""

    index: int
    """Of the route in the settings."""
    route: str
    reasons: tuple[str, ...]


class Matcher:
    """All routes, compiled. Immutable; what depends on the model's name alone was decided when it was made."""

    def __init__(self, routes: tuple[RouteSettings, ...], compile_condition: Callable[[SignalSettings], Test]) -> None:
        self._all = tuple((index, route, compile_condition(route.when)) for index, route in enumerate(routes))
        models = {model for route in routes for model in route.when.model}
        self._for_model = {
            model: tuple((i, r.name, test) for i, r, test in self._all if not r.when.model or model in r.when.model)
            for model in models
        }
        self._for_others = tuple((i, r.name, test) for i, r, test in self._all if not r.when.model)

    def match(self, features: Features, load: Load) -> Matched:
        """The first route that takes the request; NoRoute if none does."""
        for index, name, test in self._for_model.get(features.model, self._for_others):
            if test.holds(features, load):
                return Matched(index, name, test.facts(features, load))
        raise NoRoute(features.model)

    def findings(self, features: Features, load: Load) -> tuple[tuple[str, Finding], ...]:
        """Every route in order, with what its condition saw: for explanations, not for the hot path."""
        return tuple((route.name, test.find(features, load)) for _, route, test in self._all)


def compile_routes(settings: Settings) -> Matcher:
    """The settings' routes; the settings must have passed `config.check`."""
    return Matcher(settings.routes, condition_compiler(settings))
