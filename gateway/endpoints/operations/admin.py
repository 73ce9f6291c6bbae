"""The admin API, which has its own port."""

from collections.abc import Mapping

from msgspec import Struct

from actors.api.statistics import AdapterView
from actors.breakers.breakers import RungBreaker
from actors.control.admin_service import CheckResult, ExperimentSummary, PolicyView
from actors.control.key_control import MadeKey
from gateway.endpoints.admin_routes import AdapterFolder, WantedForce, WantedKey, WantedRotation
from gateway.endpoints.operations.common import found, one_of
from gateway.openapi.operation import JSON, AnswerForm, Operation, Parameter
from gateway.openapi.words import ADMIN
from policies.admission.key_states import KeyState
from policies.fallback.breaker import Force
from policies.lifecycle.reload import ReloadRefused, Swapped, Unchanged
from policies.model.load import BreakerState
from policies.records.decision_record import DecisionRecord
from policies.rollout.shadow import ShadowView


class KeyStates(Struct):
    """All keys in force. No hash is among them."""

    keys: list[KeyState]


class RevokedKey(Struct):
    """It opens nothing any more."""

    revoked: str


class BreakerViews(Struct):
    """Breakers by rung."""

    breakers: Mapping[str, RungBreaker]


class BreakerOfRung(Struct):
    """The breaker of one rung."""

    rung: str
    state: BreakerState
    opens_for_s: float
    forced: Force
    forced_for_s: float
    succeeded: int
    failed: int
    slow: int
    opened_total: int
    refused_total: int


class ExperimentSummaries(Struct):
    """All experiments of the policy."""

    experiments: list[ExperimentSummary]


class RolledBack(Struct):
    """All of its traffic goes to control."""

    experiment: str
    rolled_back: bool


class ShadowViews(Struct):
    """Shadows by name."""

    shadows: Mapping[str, ShadowView]


class AdapterViews(Struct):
    """Every version in memory."""

    adapters: list[AdapterView]


_NAME = {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}
_KEY, _RUNG = Parameter("key_id", "path", _NAME), Parameter("rung", "path", _NAME)
_ENGINE, _ADAPTER = Parameter("engine", "path", _NAME), Parameter("name", "path", _NAME)
_MISSING = frozenset({404})
_CHANGES = frozenset({404, 409, 422})
_RECORD = {
    "type": "object",
    "description": "What `penstock policy explain` prints, as it happened; without texts and keys.",
    "properties": {name: {} for name in DecisionRecord.__struct_encode_fields__},
    "required": list(DecisionRecord.__struct_encode_fields__),
}
ADMIN_OPERATIONS = (
    Operation(
        method="GET", path="/admin/policy", name="getPolicy", tag=ADMIN, summary="The policy in force",
        answers=found(PolicyView, "The policy."), key="operator", listener="admin",
    ),
    Operation(
        method="POST",
        path="/admin/policy/reload",
        name="reloadPolicy",
        tag=ADMIN,
        summary="Read the configuration again",
        answers={
            200: AnswerForm(text="It is in force, or is the same.", content={JSON: one_of(Swapped, Unchanged)}),
            422: AnswerForm(text="It has errors: the last good policy serves on.", content={JSON: ReloadRefused}),
        },
        key="operator",
        listener="admin",
    ),
    Operation(
        method="POST",
        path="/admin/policy/check",
        name="checkPolicy",
        tag=ADMIN,
        summary="What a reload would say of a configuration",
        body_text="A configuration in TOML.",
        body_optional=True,
        body_media="application/toml",
        answers=found(CheckResult, "Whether it is good."),
        key="operator",
        listener="admin",
    ),
    Operation(
        method="GET", path="/admin/decisions/{request_id}", name="getDecision", tag=ADMIN,
        summary="How a request was decided", parameters=(Parameter("request_id", "path", _NAME),),
        answers=found(_RECORD, "The record."), refused=_MISSING, key="operator", listener="admin",
    ),
    Operation(
        method="GET", path="/admin/keys", name="listKeys", tag=ADMIN, summary="All keys with their state",
        answers=found(KeyStates, "The keys."), key="operator", listener="admin",
    ),
    Operation(
        method="POST",
        path="/admin/keys",
        name="createKey",
        tag=ADMIN,
        summary="Make a tenant's key",
        body=WantedKey,
        examples={"key": {"tenant": "acme", "id": "acme-1", "expires": "90d", "models": ["penstock"]}},
        answers={201: AnswerForm(text="The key, which is not shown again.", content={JSON: MadeKey})},
        refused=_CHANGES,
        key="operator",
        listener="admin",
    ),
    Operation(
        method="POST",
        path="/admin/keys/{key_id}/rotate",
        name="rotateKey",
        tag=ADMIN,
        summary="Replace a key by another",
        body=WantedRotation,
        body_optional=True,
        examples={"a week": {"overlap": "7d"}},
        parameters=(_KEY,),
        answers=found(MadeKey, "The new key, which is not shown again, and when the old one ends."),
        refused=_CHANGES,
        key="operator",
        listener="admin",
    ),
    Operation(
        method="DELETE", path="/admin/keys/{key_id}", name="revokeKey", tag=ADMIN, summary="End a key",
        parameters=(_KEY,), answers=found(RevokedKey, "It is revoked."), refused=_CHANGES, key="operator",
        listener="admin",
    ),
    Operation(
        method="GET", path="/admin/experiments", name="listExperiments", tag=ADMIN, summary="All experiments",
        answers=found(ExperimentSummaries, "The experiments."), key="operator", listener="admin",
    ),
    Operation(
        method="POST", path="/admin/experiments/{name}/roll_back", name="rollBack", tag=ADMIN,
        summary="Send all of an experiment's traffic to control", parameters=(_ADAPTER,),
        answers=found(RolledBack, "It is in force and written down."), refused=_MISSING, key="operator",
        listener="admin",
    ),
    Operation(
        method="GET", path="/admin/shadows", name="listShadows", tag=ADMIN, summary="All shadows",
        answers=found(ShadowViews, "The shadows."), key="operator", listener="admin",
    ),
    Operation(
        method="GET", path="/admin/breakers", name="listBreakers", tag=ADMIN, summary="All breakers",
        answers=found(BreakerViews, "The breakers."), key="operator", listener="admin",
    ),
    Operation(
        method="POST",
        path="/admin/breakers/{rung}",
        name="forceBreaker",
        tag=ADMIN,
        summary="Hold a breaker open or closed",
        body=WantedForce,
        examples={"open": {"force": "open", "for_s": 60}, "end": {"force": "none"}},
        parameters=(_RUNG,),
        answers=found(BreakerOfRung, "The breaker."),
        refused=_MISSING,
        key="operator",
        listener="admin",
    ),
    Operation(
        method="GET", path="/admin/engines/{engine}/adapters", name="listAdapters", tag=ADMIN,
        summary="An engine's adapters", parameters=(_ENGINE,), answers=found(AdapterViews, "The adapters."),
        refused=_MISSING, key="operator", listener="admin",
    ),
    Operation(
        method="POST",
        path="/admin/engines/{engine}/adapters/{name}",
        name="loadAdapter",
        tag=ADMIN,
        summary="Load an adapter from a folder of the server",
        body=AdapterFolder,
        body_optional=True,
        parameters=(_ENGINE, _ADAPTER),
        answers=found(AdapterView, "The adapter."),
        refused=_CHANGES,
        key="operator",
        listener="admin",
    ),
    Operation(
        method="DELETE", path="/admin/engines/{engine}/adapters/{name}", name="unloadAdapter", tag=ADMIN,
        summary="Unload an adapter", parameters=(_ENGINE, _ADAPTER),
        answers=found(AdapterViews, "The adapters that are left."), refused=_CHANGES, key="operator",
        listener="admin",
    ),
)  # fmt: skip
