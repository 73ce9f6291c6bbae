"""Parts of the schema that do not follow from the types: allowed names, required combinations and examples.

`config.check` checks the same with better messages.
"""

from collections.abc import Mapping

from config.model.conditions import LoadCondition, SignalSettings, TimeCondition
from config.model.expectations import ExpectedDecision, GivenRequest
from config.model.rollout import ExperimentSettings, ShadowSettings
from config.model.routing import TARGETS, CascadeSettings, RouteSettings, RungSettings, Target, Use
from config.model.settings import Settings
from config.model.table import Bytes, ClockTime, Range, Seconds
from config.model.tenancy import KeySettings
from config.model.upstreams import SecretSource, UpstreamSettings
from config.model.words import ADDRESSES, LANGUAGES, REASON_CODES

Schema = dict[str, object]

_ONE_KEY: Schema = {"minProperties": 1, "maxProperties": 1}
_NAME: Schema = {"pattern": r"\S"}
_HEADERS: Schema = {"propertyNames": {"pattern": r"^[!#$%&'*+.^_`|~0-9a-z-]+$"}}
_SOME: Schema = {"minItems": 1}

EXAMPLES: Mapping[type, list[str]] = {
    Seconds: ["500ms", "2s", "10m", "1d"],
    Bytes: ["512KiB", "64MiB", "2GiB"],
    ClockTime: ["08:00", "22:30"],
}

TABLES: Mapping[type, Schema] = {
    Use: _ONE_KEY,
    Target: {"oneOf": [{"required": [word]} for word in TARGETS]},
    SecretSource: _ONE_KEY,
    Range: {"minProperties": 1, "examples": [{"at_least": 4000}, {"at_least": 0.2, "below": 0.7}]},
    RungSettings: {"oneOf": [{"required": ["to"]}, {"required": ["answer"]}, {"required": ["ladder"]}]},
    LoadCondition: {"minProperties": 2},
    ExpectedDecision: {"minProperties": 1},
}

FIELDS: Mapping[type, Mapping[str, Schema]] = {
    Settings: {
        "models": {"minProperties": 1},
        "tiers": {"minProperties": 1},
        "routes": _SOME,
        "ladders": {"additionalProperties": _SOME},
    },
    SignalSettings: {
        "tag": {"items": {"pattern": r"^[^\s,]([^,]*[^\s,])?$"}},
        "header": {**_HEADERS, "additionalProperties": _SOME},
        "path": {"items": {"enum": list(ADDRESSES)}},
        "language": {"items": {"enum": list(LANGUAGES)}},
    },
    TimeCondition: {"zone": {"examples": ["UTC", "Europe/Berlin", "America/New_York"]}},
    RouteSettings: {"name": {**_NAME, "examples": ["support-chat"]}, "owner": {"examples": ["team-support"]}},
    CascadeSettings: {"stages": {"minItems": 2, "maxItems": 2, "uniqueItems": True}},
    RungSettings: {"answer": {**_NAME, "examples": ["All models are busy. Please try again in a moment."]}},
    UpstreamSettings: {
        "urls": {**_SOME, "items": {"pattern": "^[hH][tT][tT][pP][sS]?://", "examples": ["https://vllm-a.example/v1"]}}
    },
    SecretSource: {"env": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "examples": ["CLOUD_KEY"]}},
    KeySettings: {"id": {"pattern": "^[A-Za-z0-9-]{1,64}$"}, "hash": {"pattern": "^[0-9a-f]{64}$"}},
    ExperimentSettings: {
        "name": _NAME,
        "route": _SOME,
        "arms": {
            "required": ["control"],
            "minProperties": 2,
            "additionalProperties": {"exclusiveMinimum": 0, "maximum": 100},
            "examples": [{"control": 95, "cheaper": 5}],
        },
        "override": {"examples": [{"cheaper": {"cascades.thrifty.target.large_share": 0.15}}]},
    },
    ShadowSettings: {"name": _NAME, "route": _SOME},
    GivenRequest: {
        "header": _HEADERS,
        "path": {"enum": list(ADDRESSES)},
        "language": {"enum": list(LANGUAGES)},
        "time": {"examples": ["2026-11-21T22:30:00+01:00"]},
    },
    ExpectedDecision: {"why": {"enum": list(REASON_CODES)}},
}
