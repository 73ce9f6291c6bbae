"""The first route whose condition holds, with reasons that print."""

from collections.abc import Callable

import msgspec

from config.model.conditions import SignalSettings
from config.model.routing import RouteSettings
from config.model.settings import Settings
from policies.errors import NoRoute
from policies.model.features import Features
from policies.model.load import Load
from policies.routing.conditions import Finding, Test, condition_compiler

_REMEMBERED = 2048
_Names = tuple[str, str, str, frozenset[str], str]


class Matched(msgspec.Struct, frozen=True, gc=False):
    """The route that takes the request."""

    index: int
    """Of the route in the settings."""
    route: str
    reasons: tuple[str, ...]


class Matcher:
    """All routes, compiled.

    Which routes a request's names leave (model, tenant, tier, tags, address) is looked up rather than decided: the
    answers are remembered, up to a bound. Nothing else about it ever changes.
    """

    def __init__(self, routes: tuple[RouteSettings, ...], compile_condition: Callable[[SignalSettings], Test]) -> None:
        self._all = tuple((index, route, compile_condition(route.when)) for index, route in enumerate(routes))
        self._models = frozenset(model for route in routes for model in route.when.model)
        self._left: dict[_Names, tuple[tuple[int, str, Test], ...]] = {}

    def match(self, features: Features, load: Load) -> Matched:
        """The first route that takes the request; NoRoute if none does."""
        model = features.model if features.model in self._models else ""
        names = (model, features.tenant, features.tier, features.tags, features.path)
        left = self._left.get(names)
        if left is None:
            left = self._remember(names)
        for index, name, test in left:
            if test.holds(features, load):
                return Matched(index, name, test.facts(features, load))
        raise NoRoute(features.model)

    def findings(self, features: Features, load: Load) -> tuple[tuple[str, Finding], ...]:
        """Every route in order, with what its condition saw: for explanations, not for the hot path."""
        return tuple((route.name, test.find(features, load)) for _, route, test in self._all)

    def _remember(self, names: "_Names") -> tuple[tuple[int, str, Test], ...]:
        if len(self._left) >= _REMEMBERED:
            self._left.clear()
        left = tuple((index, route.name, test) for index, route, test in self._all if _may_hold(route.when, names))
        self._left[names] = left
        return left


def _may_hold(when: SignalSettings, names: "_Names") -> bool:
    """False if the names alone rule it out."""
    model, tenant, tier, tags, path = names
    return (
        (not when.model or model in when.model)
        and (not when.tenant or tenant in when.tenant)
        and (not when.tier or tier in when.tier)
        and (not when.path or path in when.path)
        and (not when.tag or not tags.isdisjoint(when.tag))
    )


def compile_routes(settings: Settings) -> Matcher:
    """The settings' routes; the settings must have passed `config.check`."""
    return Matcher(settings.routes, condition_compiler(settings))
