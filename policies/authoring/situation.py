"""A request and the load at its moment, described rather than met: for tests inside a policy, and for questions."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Self

import msgspec

from config.model.expectations import GivenLoad, GivenRequest
from config.model.settings import Settings
from config.tenants import known_tenants
from policies.model.breaker_view import BreakerView
from policies.model.features import Features
from policies.model.load import EngineLoad, Load
from policies.model.requirements import Requirements, described_requirements
from policies.routing.busy import BusyBook
from policies.routing.code_share import code_density
from policies.routing.complexity import complexity
from policies.routing.language import language
from policies.routing.token_budget import PromptSizes

SOME_NOON = dt.datetime(2026, 1, 7, 12, tzinfo=dt.UTC).timestamp()
"""A Wednesday: what a description without a time means."""


class Situation(msgspec.Struct, frozen=True):
    """All that a decision looks at."""

    features: Features
    load: Load
    sizes: PromptSizes | None = None
    """Where rungs read the prompts differently; None: they all read `features.prompt_tokens`."""

    def changed(self, **features: Any) -> Self:
        """With other features, and what follows from them."""
        needs, sizes = self.features.requirements, self.sizes
        if "prompt_tokens" in features:
            needs, sizes = msgspec.structs.replace(needs, prompt_lengths=()), None
        if "has" in features:
            bound_to = (needs.bound_to or "json") if "schema" in features["has"] else None
            needs = msgspec.structs.replace(needs, bound_to=bound_to)
        changed = msgspec.structs.replace(self.features, requirements=needs, **features)
        return msgspec.structs.replace(self, features=changed, sizes=sizes)


def recorded_situation(features: Features, load: Load) -> Situation:
    """Of a decision record; one that an older version wrote tells what the request needs by its features only."""
    if features.requirements == Requirements():
        needs = described_requirements(features.path, features.has)
        features = msgspec.structs.replace(features, requirements=needs)
    return Situation(features, load)


def situation_of(given: GivenRequest, settings: Settings, at: float = SOME_NOON) -> Situation:
    """What is not given is as unremarkable as can be: the first model and tenant, and engines without load.

    A load that would make a cascade busy does so at once. Raises ValueError for a time that is none; names that the
    settings do not have are the decision's business.
    """
    tenants = known_tenants(settings)
    tenant = given.tenant if given.tenant is not None else next(iter(settings.tenants), next(iter(tenants)))
    tier = given.tier
    if tier is None:
        tier = tenants[tenant].tier if tenant in tenants else next(iter(settings.tiers))
    text = given.text
    features = Features(
        model=given.model if given.model is not None else next(iter(settings.models)),
        tenant=tenant,
        tier=tier,
        tags=frozenset(given.tag),
        headers={name.lower(): value for name, value in given.header.items()},
        path=given.path,
        has=frozenset(given.has),
        prompt_tokens=given.prompt_tokens,
        max_tokens=given.max_tokens,
        turn=given.turn,
        complexity=_first(given.complexity, complexity(text, given.turn) if text is not None else 0.0),
        code=_first(given.code, code_density(text) if text is not None else 0.0),
        language=given.language or (language(text) if text is not None else "und"),
        at=at if given.time is None else time_of(given.time),
        budget_used=given.budget_used,
        requirements=described_requirements(given.path, given.has),
        request=given.unit,
        conversation=given.unit,
        user=given.unit,
    )
    return Situation(features, _load(given, settings, tier))


def time_of(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 time with a zone; ValueError for anything else."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"{text!r} is no time: expected one with a zone, such as 2026-11-21T22:30:00+01:00")
    return found.timestamp()


def _load(given: GivenRequest, settings: Settings, tier: str) -> Load:
    # As on a server: of engines the load is known, of upstreams only what is said of them.
    rungs = {name: GivenLoad() for name in settings.engines} | given.load
    load = Load(engines=_engines(rungs), breakers=_breakers(rungs.items()), rolled_back=frozenset(given.rolled_back))
    # A book that has seen nothing before: what is above the signal's bound is busy, the rest is not.
    busy = BusyBook(settings).update(load, 0.0) | {(cascade, tier) for cascade in given.busy}
    return msgspec.structs.replace(load, busy=busy)


def _engines(rungs: Mapping[str, GivenLoad]) -> dict[str, EngineLoad]:
    return {
        name: EngineLoad(
            name=name,
            healthy=each.healthy,
            running=each.running,
            kv_usage=each.kv_usage,
            expected_wait_s=float(each.queue_wait),
        )
        for name, each in rungs.items()
    }


def _breakers(rungs: Iterable[tuple[str, GivenLoad]]) -> dict[str, BreakerView]:
    return {name: BreakerView(each.breaker, 0) for name, each in rungs}


def _first(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given
