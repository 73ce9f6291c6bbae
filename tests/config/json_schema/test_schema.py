"""The schema agrees with the loader."""

import datetime as dt
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.json_schema.schema import settings_schema
from config.load import parse_settings
from config.problems.errors import ConfigError
from config.profiles import embedded_profile
from tests.paths import ROOT

SCHEMA = json.loads(json.dumps(settings_schema()))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
PART = jsonschema.Draft202012Validator(json.loads(json.dumps(settings_schema(part=True))))


def violations(document: object) -> list[str]:
    return sorted(error.json_path.removeprefix("$.") for error in VALIDATOR.iter_errors(document))


def as_editors_see_it(value: Any) -> Any:
    """In JSON a date-time is a string."""
    match value:
        case dict():
            return {key: as_editors_see_it(inner) for key, inner in value.items()}
        case list():
            return [as_editors_see_it(inner) for inner in value]
        case dt.datetime():
            return value.isoformat()
    return value


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted(embedded_profile().parent.glob("*.toml")), ids=lambda path: path.name)
def test_the_profiles_obey_it(path: Path) -> None:
    assert violations(tomllib.loads(path.read_text())) == []


@pytest.mark.parametrize("document", ["configuration.md", "policies.md"])
def test_the_documentations_examples_obey_it(document: str) -> None:
    path = ROOT / "docs" / document
    blocks = re.findall(r"```toml\n(.*?)```", path.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        text = block if block.startswith("schema") else f"schema = 1\n{block}"
        tables = as_editors_see_it(tomllib.loads(text.replace('hash = "…"', f'hash = "{"0" * 64}"')))
        assert [error.message for error in PART.iter_errors(tables)] == [], block


def test_mistakes_disobey_it() -> None:
    document = tomllib.loads(embedded_profile().read_text())
    document["server"]["port"] = -1
    document["tiers"]["default"]["queue"]["wait"] = "30 s"
    document["engines"]["small"]["modle"] = "x"
    document["routes"][1]["use"] = {"cascade": "thrifty", "ladder": "large-first"}
    document["ladders"]["small-first"][0]["answer"] = "x"
    document["cascades"]["thrifty"]["stages"] = ["small"]
    del document["routes"][0]["use"]
    assert violations(document) == [
        "cascades.thrifty.stages",
        "engines.small",
        "ladders['small-first'][0]",
        "routes[0]",
        "routes[1].use",
        "server.port",
        "tiers.default.queue.wait",
    ]


def test_fields_are_described_as_in_the_source() -> None:
    defs: Any = SCHEMA["$defs"]
    assert defs["SignalSettings"]["properties"]["not"] == {"$ref": "#/$defs/SignalSettings"}
    assert defs["ServerSettings"]["properties"]["port"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 65535,
        "default": 8080,
    }
    assert defs["BreakerSettings"]["properties"]["failure_rate"]["exclusiveMinimum"] == 0
    assert defs["Deadlines"]["properties"]["ttft"]["default"] == "30s"
    assert defs["TierSettings"]["properties"]["admit_below"]["description"].startswith("Refused while the queue")
    assert defs["QueueLimits"]["properties"]["bytes"]["default"] == "64MiB"
    assert all(table["description"] for table in defs.values())


DOCUMENT = tomllib.loads(
    embedded_profile().read_text()
    + """
[tenants.anonymous]
tokens = { per_minute = 100 }
[signals.s]
tag = ["x"]
header = { x-app = ["a"] }
time = { from = "08:00", days = ["mon"] }
any = [{ language = ["de"] }, { prompt_tokens = { at_least = 5 } }]
[[experiments]]
name = "e"
route = ["penstock"]
arms = { control = 50, other = 50 }
override.other = { "cascades.thrifty.emit.window" = 8 }
[[shadows]]
name = "s"
route = ["small"]
to = "large"
share = 0.1
[[tests]]
name = "t"
given = { tag = ["x"] }
expect = { route = "penstock" }
"""
)
ODD = st.sampled_from([None, -1, 0, 0.5, 7, True, "", " ", "x", "2s", "64MiB", [], ["x"], {}, {"x": 1}, [{}], 1e9])


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        found += [place for key in value for place in places(value[key], (*path, key))]
    if isinstance(value, list):
        found += [place for index, member in enumerate(value) for place in places(member, (*path, index))]
    return found


PLACES = places(DOCUMENT)


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(PLACES), value=ODD, key=st.none() | st.sampled_from(["x", "to", "answer", "name", ""]))
def test_what_the_schema_rejects_check_rejects(place: tuple[Any, ...], value: object, key: str | None) -> None:
    import tomlkit

    document = json.loads(json.dumps(DOCUMENT))
    inner = document
    for step in place[:-1]:
        inner = inner[step]
    if value is None:
        del inner[place[-1]]
    elif key is not None and isinstance(inner[place[-1]], dict):
        inner[place[-1]][key] = value
    else:
        inner[place[-1]] = value
    if VALIDATOR.is_valid(document):
        return
    with pytest.raises(ConfigError):
        parse_settings(tomlkit.dumps(document), embedded_profile())
