"""Finds the first route whose condition holds, with readable reasons."""

import msgspec

from config.model.conditions import SignalSettings
from config.model.settings import Settings
from policies.errors import NoRoute
from policies.model.features import Features
from policies.model.load import Load
from policies.routing.conditions import Finding, Test, condition_compiler

_MAX_CACHED = 2048
_Names = tuple[str, str, str, frozenset[str], str]


class Matched(msgspec.Struct, frozen=True, gc=False):
    """The route of a request."""

    index: int
    route: str
    reasons: tuple[str, ...]


class Matcher:
    """All routes, compiled.

    The routes that are possible for a request's model, tenant, tier, tags and path are cached, up to `_MAX_CACHED`
    combinations. Apart from this cache it is immutable.
    """

    def __init__(self, settings: Settings) -> None:
        """`settings`: those that `config.check` has accepted."""
        compiled, routes = condition_compiler(settings), settings.routes
        self._routes = tuple((index, route, compiled(route.when)) for index, route in enumerate(routes))
        self._models = frozenset(model for route in routes for model in route.when.model)
        self._candidates: dict[_Names, tuple[tuple[int, str, Test], ...]] = {}

    def match(self, features: Features, load: Load) -> Matched:
        """The first route whose condition holds. Raises NoRoute."""
        model = features.model if features.model in self._models else ""
        names = (model, features.tenant, features.tier, features.tags, features.path)
        candidates = self._candidates.get(names)
        if candidates is None:
            if len(self._candidates) >= _MAX_CACHED:
                self._candidates.clear()
            possible = (
                (index, route.name, test) for index, route, test in self._routes if _may_hold(route.when, names)
            )
            candidates = self._candidates[names] = tuple(possible)
        for index, name, test in candidates:
            if test.holds(features, load):
                return Matched(index, name, test.facts(features, load))
        raise NoRoute(features.model)

    def findings(self, features: Features, load: Load) -> tuple[tuple[str, Finding], ...]:
        """All routes in order with the results of their conditions. For explanations, not for the request path."""
        return tuple((route.name, test.find(features, load)) for _, route, test in self._routes)


def _may_hold(when: SignalSettings, names: "_Names") -> bool:
    model, tenant, tier, tags, path = names
    return (
        (not when.model or model in when.model)
        and (not when.tenant or tenant in when.tenant)
        and (not when.tier or tier in when.tier)
        and (not when.path or path in when.path)
        and (not when.tag or not tags.isdisjoint(when.tag))
    )
