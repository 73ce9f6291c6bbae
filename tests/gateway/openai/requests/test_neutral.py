"""Each check of values without effect beside its schema."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.openai.requests.neutral import (
    EMPTY,
    INTEGER,
    LIST,
    NOTHING,
    OBJECT,
    TEXT,
    Neutral,
    any_of,
    either,
    field_schema,
    field_schemas,
)

CHECKS = [any_of(1, 1.0), any_of(True), any_of("a", "b"), any_of([], ["a"]), EMPTY, TEXT, OBJECT, LIST, INTEGER,
          either(EMPTY, INTEGER), NOTHING]  # fmt: skip
VALUES: list[Any] = [True, False, 0, 1, 1.5, "", "a", "b", [], ["a"], {}, {"a": 1}]


@pytest.mark.parametrize("neutral", CHECKS)
def test_the_schema_says_what_the_check_does(neutral: Neutral) -> None:
    validator = Draft202012Validator(neutral.schema)
    assert [neutral(value) for value in VALUES] == [validator.is_valid(value) for value in VALUES]
    assert not all(neutral(value) for value in VALUES)


def test_a_field_may_be_null_and_have_the_values_of_upstreams() -> None:
    schemas = field_schemas({"a": any_of(True), "b": TEXT}, {"a": INTEGER, "c": LIST})
    assert list(schemas) == ["a", "b"]
    a, b = (Draft202012Validator(schemas[name]) for name in ("a", "b"))
    assert [a.is_valid(value) for value in (None, True, 3, "x")] == [True, True, True, False]
    assert [b.is_valid(value) for value in (None, True, 3, "x")] == [True, False, False, True]


def test_what_is_said_of_a_field_is_not_checked_by_msgspec() -> None:
    meta = field_schema(minimum=1)
    assert meta.extra_json_schema == {"minimum": 1}
    assert meta.ge is None
