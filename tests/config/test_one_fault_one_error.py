"""Any single fault in a valid policy is one error, at its line, without errors that only follow from it."""

import random
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.load import parse
from config.problems.errors import ConfigError, Problem
from config.problems.source_map import SourceMap
from tests.paths import ROOT
from tests.sampling import named

TEXT = (ROOT / "tests/config/faulty" / "valid.toml").read_text()
LINES = TEXT.split("\n")
PLACES = SourceMap(TEXT)
LITERAL = re.compile(r'"(?:\\.|[^"\\])*"|[^,\]}\s]+')
HEADER = re.compile(r"\[([a-z_]+)\.([a-z0-9]+)\]")
WRONG = {
    str: ("7", "true", '["V"]', "{ x = 1 }", '"Vx"'),
    bool: ('"V"', "1", "{ x = 1 }"),
    int: ('"V"', "-1", "true", "{ x = 1 }"),
    float: ('"V"', "-1", "true", "{ x = 1 }"),
}
"""By type: wrong values in place of a value V."""
ELSEWHERE = {("name", '"Vx"'), ("at_least", "-1"), ("arms", "key")}
"""Changes that are valid at their own place, and inconsistent with another one."""


def problems_of(text: str) -> tuple[Problem, ...]:
    try:
        parse(text, Path("/x.toml"))
    except ConfigError as error:
        return error.problems
    return ()


def replaced(line: int, column: int, old: str, new: str) -> str:
    changed = LINES[line - 1][: column - 1] + new + LINES[line - 1][column - 1 + len(old) :]
    return "\n".join([*LINES[: line - 1], changed, *LINES[line:]])


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], object]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from leaves(inner, (*path, key))
        case list():
            for index, inner in enumerate(value):
                yield from leaves(inner, (*path, index))
        case _:
            yield path, value


LEAVES = list(leaves(tomllib.loads(TEXT)))
SHARES = [6, pytest.param(1, marks=pytest.mark.slow)]
"""A sixth of the values of a table, or all."""


def some(table: str, share: int) -> list[tuple[tuple[str | int, ...], object]]:
    """A seeded sample of the table's leaves."""
    in_table = [leaf for leaf in LEAVES if leaf[0][0] == table]
    return random.Random(table).sample(in_table, -(-len(in_table) // share))


def test_the_policy_is_good() -> None:
    assert problems_of(TEXT) == ()
    assert parse(TEXT, Path("/x.toml")).warnings == ()


@pytest.mark.parametrize("table", sorted({str(path[0]) for path, _ in LEAVES}))
@pytest.mark.parametrize("share", SHARES)
def test_a_value_that_is_none(table: str, share: int) -> None:
    for path, value in some(table, share):
        place = PLACES.value(path)
        literal = LITERAL.match(LINES[place.line - 1][place.column - 1 :])
        assert literal is not None
        for wrong in WRONG[type(value)]:
            new = wrong.replace("V", str(value))
            reported = problems_of(replaced(place.line, place.column, literal.group(), new))
            assert len(reported) <= 1, (new, reported)
            assert reported or wrong in {'"Vx"', "-1"} or new == value, (path, new)
            if (path[-1], wrong) not in ELSEWHERE:
                assert [problem.line for problem in reported] in ([], [place.line]), (new, reported)


@pytest.mark.parametrize("table", sorted({str(path[0]) for path, _ in LEAVES}))
@pytest.mark.parametrize("share", SHARES)
def test_a_key_that_is_misspelled(table: str, share: int) -> None:
    for path, _ in some(table, share):
        if not isinstance(path[-1], str) or len(path[-1]) < 3:
            continue
        place = PLACES.key(path)
        if not LINES[place.line - 1][place.column - 1 :].startswith(path[-1]):
            continue
        reported = problems_of(replaced(place.line, place.column, path[-1], path[-1][:-1]))
        assert len(reported) <= 1, reported
        if (*path[-2:-1], "key") not in ELSEWHERE:
            assert [problem.line for problem in reported] in ([], [place.line]), reported


@pytest.mark.sample(12)
@pytest.mark.parametrize("number", named([(line, n) for n, line in enumerate(LINES) if HEADER.fullmatch(line)]))
def test_a_table_that_is_renamed_or_taken_away(number: int) -> None:
    end = next(line for line in range(number + 1, len(LINES)) if not LINES[line] or LINES[line].startswith("["))
    renamed = [*LINES[:number], LINES[number].replace("]", "x]"), *LINES[number + 1 :]]
    away = [*LINES[:number], *LINES[end:]]
    misspelled = [*LINES[:number], LINES[number].replace(".", "x.", 1), *LINES[number + 1 :]]
    for lines in (renamed, away):
        assert len(problems_of("\n".join(lines))) == 1, (LINES[number], problems_of("\n".join(lines)))
    reported = problems_of("\n".join(misspelled))
    assert reported[0].line == number + 1
    assert len(reported) == 1 or "adapters" in LINES[number + 3], reported


def test_a_name_that_is_unknown_in_several_places_is_reported_once() -> None:
    (problem,) = problems_of(TEXT.replace('on_failure = "safe"', 'on_failure = "saef"'))
    assert "there is no ladder 'saef' (also on line " in problem.message
    assert problem.suggestion == "safe"


@pytest.mark.parametrize("word", ["key", "api_key", "secret", "token", "value", "password"])
@pytest.mark.parametrize("table", ["keys", "admin.keys", "metrics.keys"])
def test_a_key_in_place_of_its_hash_is_one_error_that_does_not_repeat_it(table: str, word: str) -> None:
    tenant = 'tenant = "acme"\n' if table == "keys" else ""
    written = f'{TEXT}\n[[{table}]]\n{tenant}{word} = "penstock_1a2b3c4d_0123456789abcdef0123456789abcdef"\n'
    (problem,) = problems_of(written)
    assert "only the hash of a key" in problem.message
    assert "penstock keys new" in problem.expected
    assert "0123456789abcdef" not in str(problem)
