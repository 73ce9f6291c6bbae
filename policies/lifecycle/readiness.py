"""Whether new work can be served now: of the whole service, and of each model name.

A model is ready if one of its rungs can serve: it is loaded, its breaker is not open, and it has an address that is not
left out. The service is ready if it takes requests and one of its models is ready. A static answer serves no model.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from policies.lifecycle.drain import DrainState

ServiceState = DrainState | Literal["loading", "ledger_blocked", "backends_down", "no_rung_available"]
"""ledger_blocked: the ledger cannot commit, and no answer is sent without a committed entry. backends_down: every
engine and upstream is marked down. no_rung_available: no rung of any model can serve now."""
RungState = Literal["ready", "loading", "failed", "down", "breaker_open", "addresses_rest"]
"""addresses_rest: each of an upstream's addresses is left out, or has asked for a pause."""


class BackendFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is published of an engine or upstream."""

    state: Literal["loading", "ready", "failed"] = "ready"
    down: bool = False
    breaker_open: bool = False
    rests: bool = False

    @property
    def rung_state(self) -> RungState:
        """The gravest reason why it cannot serve."""
        if self.down:
            return "down"
        if self.state != "ready":
            return self.state
        if self.breaker_open:
            return "breaker_open"
        return "addresses_rest" if self.rests else "ready"


class ModelReadiness(msgspec.Struct, frozen=True):
    """Of one model name."""

    ready: bool
    rungs: Mapping[str, RungState]
    """Those that may answer it."""


class ServiceReadiness(msgspec.Struct, frozen=True):
    """Of the service and its models."""

    ready: bool
    state: ServiceState
    models: Mapping[str, ModelReadiness]


def readiness(
    drain: DrainState,
    *,
    loaded: bool,
    ledger_blocked: bool,
    backends: Mapping[str, BackendFacts],
    rungs_of: Mapping[str, Sequence[str]],
) -> ServiceReadiness:
    """`loaded`: everything was loaded once. `rungs_of`: the backends that may answer each model name.

    A model without rungs is answered by static answers alone, and is ready while the service takes requests.
    """
    states = {name: facts.rung_state for name, facts in backends.items()}
    takes = drain == "serving" and loaded and not ledger_blocked
    models = {}
    for name, rungs in rungs_of.items():
        of_rungs = {rung: states[rung] for rung in rungs}
        models[name] = ModelReadiness(takes and (not of_rungs or "ready" in of_rungs.values()), of_rungs)
    state: ServiceState = drain
    if drain != "serving":
        pass
    elif ledger_blocked:
        state = "ledger_blocked"
    elif states and all(each == "down" for each in states.values()):
        state = "backends_down"
    elif not loaded:
        state = "loading"
    elif not any(each.ready for each in models.values()):
        state = "no_rung_available"
    return ServiceReadiness(takes and state == "serving", state, models)
