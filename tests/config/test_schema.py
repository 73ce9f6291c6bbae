"""The schema says what the loader does."""

import json
import re
import tomllib
from typing import Any

from config.profiles import embedded_profile
from config.schema import settings_schema


def violations(schema: dict[str, Any], value: object, root: dict[str, Any], where: str = "") -> list[str]:
    """The part of JSON Schema that the schema uses."""
    if "$ref" in schema:
        return violations(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], value, root, where)
    if "enum" in schema:
        return [] if value in schema["enum"] else [where]
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    if not isinstance(value, kinds[schema["type"]]):
        return [where]
    found: list[str] = []
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{where}.{key}" for key in schema.get("required", ()) if key not in value]
        for key, member in value.items():
            inner = properties.get(key, schema.get("additionalProperties"))
            found += [f"{where}.{key}"] if inner is False else violations(inner, member, root, f"{where}.{key}")
    if isinstance(value, list):
        found += [v for i, m in enumerate(value) for v in violations(schema["items"], m, root, f"{where}[{i}]")]
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(where)
    if isinstance(value, (int, float)) and value < schema.get("minimum", float("-inf")):
        found.append(where)
    return found


def test_the_embedded_profile_obeys_the_schema() -> None:
    schema = json.loads(json.dumps(settings_schema()))
    document = tomllib.loads(embedded_profile().read_text())
    assert violations(schema, document, schema) == []


def test_mistakes_disobey_the_schema() -> None:
    schema = settings_schema()
    document = tomllib.loads(embedded_profile().read_text())
    document["server"]["port"] = -1
    document["tiers"]["default"]["queue"]["wait"] = "30 s"
    document["engines"]["small"]["modle"] = "x"
    del document["routes"][0]["use"]
    assert sorted(violations(schema, document, schema)) == [
        ".engines.small.modle",
        ".routes[0].use",
        ".server.port",
        ".tiers.default.queue.wait",
    ]


def test_recursive_tables_and_bounds_are_described() -> None:
    schema: Any = settings_schema()
    assert schema["$defs"]["SignalSettings"]["properties"]["not"] == {"$ref": "#/$defs/SignalSettings"}
    assert schema["$defs"]["ServerSettings"]["properties"]["port"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 65535,
    }
    assert schema["$defs"]["BreakerSettings"]["properties"]["failure_rate"]["exclusiveMinimum"] == 0
