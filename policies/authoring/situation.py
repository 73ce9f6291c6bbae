"""Builds the features and the load of a described request, for the tests in a policy file and for `policy explain`."""

import datetime as dt
from typing import Any, Self

import msgspec

from config.model.expectations import GivenLoad, GivenRequest
from config.model.settings import Settings
from config.tenants import known_tenants
from policies.model.features import Features, Requirements, described_media, described_requirements
from policies.model.load import BreakerView, EngineLoad, Load
from policies.routing.busy import BusyBook
from policies.routing.code_share import code_density
from policies.routing.complexity import complexity
from policies.routing.language import language
from policies.routing.token_budget import PromptSizes

SOME_NOON = dt.datetime(2026, 1, 7, 12, tzinfo=dt.UTC).timestamp()
"""The time of a description without one: a Wednesday."""


class Situation(msgspec.Struct, frozen=True):
    """The inputs of a decision."""

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
            kept = [each for each in needs.media if each[0] in features["has"]]
            more = [each for each in described_media(features["has"]) if each[0] not in dict(kept)]
            needs = msgspec.structs.replace(needs, bound_to=bound_to, media=tuple(sorted((*kept, *more))))
        changed = msgspec.structs.replace(self.features, requirements=needs, **features)
        return msgspec.structs.replace(self, features=changed, sizes=sizes)


def recorded_situation(features: Features, load: Load) -> Situation:
    """Of a decision record; one that an older version wrote tells what the request needs by its features only."""
    if features.requirements == Requirements():
        needs = described_requirements(features.path, features.has)
        features = msgspec.structs.replace(features, requirements=needs)
    return Situation(features, load)


def situation_of(given: GivenRequest, settings: Settings, at: float = SOME_NOON) -> Situation:
    """The situation that `given` describes. Defaults: the first model and tenant, and engines without load.

    A load above a cascade's `when_busy` bound makes it busy at once. Raises ValueError for an invalid time. Unknown
    names are not checked here: the decision refuses them.
    """
    tenants = known_tenants(settings)
    tenant = given.tenant if given.tenant is not None else next(iter(settings.tenants), next(iter(tenants)))
    tier = given.tier
    if tier is None:
        tier = tenants[tenant].tier if tenant in tenants else next(iter(settings.tiers))
    # What a text says, unless it is given.
    scores: dict[str, Any] = {"complexity": 0.0, "code": 0.0, "language": "und"}
    if (text := given.text) is not None:
        scores = {"complexity": complexity(text, given.turn), "code": code_density(text), "language": language(text)}
    scores |= {name: value for name in scores if (value := getattr(given, name)) not in {None, ""}}
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
        **scores,
        at=at if given.time is None else time_of(given.time),
        budget_used=given.budget_used,
        requirements=described_requirements(given.path, given.has),
        request=given.unit,
        conversation=given.unit,
        user=given.unit,
    )
    return Situation(features, _load(given, settings, tier))


def time_of(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 time with a zone. Raises ValueError for anything else."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError(f"{text!r} is no time: expected one with a zone, such as 2026-11-21T22:30:00+01:00")
    return found.timestamp()


def _load(given: GivenRequest, settings: Settings, tier: str) -> Load:
    # As on a server: the load of engines is always known, that of upstreams only if it is given.
    rungs = {name: GivenLoad() for name in settings.engines} | given.load
    load = Load(
        engines={
            name: EngineLoad(
                name=name,
                healthy=rung.healthy,
                running=rung.running,
                kv_usage=rung.kv_usage,
                expected_wait_s=float(rung.queue_wait),
            )
            for name, rung in rungs.items()
        },
        breakers={name: BreakerView(rung.breaker, 0) for name, rung in rungs.items()},
        rolled_back=frozenset(given.rolled_back),
    )
    # A new BusyBook has no history: exactly the cascades above their bound are busy.
    busy = BusyBook(settings).update(load, 0.0) | {(cascade, tier) for cascade in given.busy}
    return msgspec.structs.replace(load, busy=busy)
