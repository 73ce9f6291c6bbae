"""Patterns in a schema have the meaning of ECMA-262, which is Python's for these."""

import json
import re
import warnings
from contextlib import suppress
from random import Random

import pytest

from engine.errors import RequestRefused
from engine.sampling.grammar import Grammar, Grammars
from engine.sampling.schema_patterns import rust_pattern
from tests.engine.tiny_tokenizers import byte_level_tokenizer

TOKENIZER = byte_level_tokenizer()
GRAMMARS = Grammars(TOKENIZER)
TEXTS = ["", *'ab[]&-~^.,}"\\\n é', "xa", "x[", "a]", "[]", "a\\", '""', 'a"b']
ITEMS = [
    *("a", "b", "[", "&&", "&", "-", "--", "~~", "^", ".", " ", '"', "é", "{", "a-c", "#-z"),
    *(r"\]", r"\[", r"\-", r"\\", r"\"", r"\w", r"\d", r"\n", r"\x00-\x1f", r"\x00-!", r"\u0000-\u001F"),
]


def taken(pattern: str) -> list[str]:
    source = json.dumps({"type": "string", "pattern": pattern})
    compiled = GRAMMARS.compile(Grammar("json_schema", source))
    found = []
    for text in TEXTS:
        state = compiled.start()
        state.advance(TOKENIZER.encode(json.dumps(text, ensure_ascii=False)))
        if state.complete:
            found.append(text)
    return found


def meant(pattern: str) -> list[str]:
    with warnings.catch_warnings(action="ignore"):
        return [text for text in TEXTS if re.search(pattern.replace("$", r"\Z"), text, re.ASCII)]


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[^[\]]*$",
        r"^[[a]]$",
        r"^[a&&b]$",
        r"^[a-c--b]$",
        r"^[+--]$",
        r"^[~~a]$",
        r"^[]a]$",
        r"^[^]a]$",
        r'^[^"]$',
        r'^[^"\n]*$',
        r"^[^\\]+$",
        r"^[\x00-!]$",
        r"^[\u0000-\u001f]*$",
        r"^a[^\\]b$",
    ],
)
def test_a_class_has_the_characters_that_it_names(pattern: str) -> None:
    assert taken(pattern) == meant(pattern)


@pytest.mark.parametrize("seed", range(3))
def test_random_classes(seed: int) -> None:
    rng = Random(seed)
    looked_at = 0
    while looked_at < 100:
        items = "".join(rng.choice(ITEMS) for _ in range(rng.randrange(1, 6)))
        pattern = f"^{rng.choice(['', 'x'])}[{rng.choice(['', '^'])}{items}]{rng.choice(['', '*', ']'])}$"
        with suppress(re.error, RequestRefused):
            expected = meant(pattern)
            assert taken(pattern) == expected, pattern
            looked_at += 1


@pytest.mark.parametrize("pattern", [r"^(a|[b-d]{2,3})\.\d+$", r"\[a--b]", "a&&b", "[", "[^a-", "a\\", r"^\w+[ -}]$"])
def test_others_stay_as_they_are(pattern: str) -> None:
    assert rust_pattern(pattern) == pattern


def test_properties_of_characters_have_no_nul_either() -> None:
    assert '"' in taken(r"^\P{L}$")
    assert '"' not in taken(r"^\P{P}$")
    assert taken(r"^[\p{Cc}]$") == ["\n"]


def test_patterns_for_names_are_read_alike() -> None:
    schema = {"type": "object", "patternProperties": {r"^[[a]]$": {"type": "integer"}}, "additionalProperties": False}
    compiled = GRAMMARS.compile(Grammar("json_schema", json.dumps(schema)))
    for text, ends in (('{"[]":1}', True), ('{"a]":1}', True), ('{"a":1}', False)):
        state = compiled.start()
        state.advance(TOKENIZER.encode(text))
        assert state.complete is ends
