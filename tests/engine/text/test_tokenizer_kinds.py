"""Tokenization of continued text with every kind of tokenizer: grammars, banned words, escaped messages."""

import json
import re
from typing import Any

import pytest

from engine.sampling.bad_words import spellings
from engine.sampling.grammar import Grammar, Grammars
from engine.testing.fake_runner import FakeRunner
from engine.text.tokenizer import Tokenizer
from tests.engine import tiny_tokenizers
from tests.engine.driving import make_engine, run, submit

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "first name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mood": {"enum": ["so so", "</s>", "<|end|>", "good"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["first name", "age", "mood", "tags"],
    "additionalProperties": False,
}
CHOICES = ["yes and no", " leading", "two  spaces", "</s>", "<think>", "tab\tand\nline"]


def is_schema(text: str) -> bool:
    value = json.loads(text)
    return value.keys() == SCHEMA["properties"].keys() and value["mood"] in SCHEMA["properties"]["mood"]["enum"]


GRAMMARS = {
    "schema": (Grammar("json_schema", json.dumps(SCHEMA)), is_schema),
    "regex": (Grammar("regex", r"(ab |the dog){2}[0-9]{3}\."), re.compile(r"(ab |the dog){2}[0-9]{3}\.").fullmatch),
    "regex-space": (Grammar("regex", r" the end"), re.compile(" the end").fullmatch),
    "lark": (
        Grammar("grammar", 'start: "result of" " " NUMBER " is " NUMBER\nNUMBER: /[0-9]{1,3}/'),
        re.compile(r"result of [0-9]{1,3} is [0-9]{1,3}").fullmatch,
    ),
    **{
        f"choice-{number}": (Grammar("choice", json.dumps([choice])), choice.__eq__)
        for number, choice in enumerate(CHOICES[:4])
    },
}


@pytest.fixture(scope="module", params=tiny_tokenizers.KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[str, Tokenizer, Grammars]:
    tokenizer = tiny_tokenizers.KINDS[request.param]()
    return request.param, tokenizer, Grammars(tokenizer)


@pytest.mark.parametrize("what", GRAMMARS)
@pytest.mark.parametrize("prompt", ["special", "text"])
def test_answers_are_whole_and_valid(kind: tuple[str, Tokenizer, Grammars], what: str, prompt: str) -> None:
    _, tokenizer, grammars = kind
    grammar, valid = GRAMMARS[what]
    before = [min(tokenizer.eos_ids)] if prompt == "special" else tokenizer.encode("the dog")
    engine = make_engine(FakeRunner(vocab_size=tokenizer.vocab_size + 3), tokenizer=tokenizer)
    asked = [
        submit(seed, before, grammar=grammars.compile(grammar), temperature=1.0, seed=seed, max_tokens=600)
        for seed in range(6)
    ]
    for answer in run(engine, *asked).values():
        assert (answer.finish.reason, answer.finish.code) == ("stop", "")
        assert valid(answer.text), answer.text


TEXTS = [*CHOICES[:4], "a", " ", "  ", "b c", '": "', "}", "</s><s>", "Zürich"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_inside_another_is_spelled_byte_for_byte(kind: tuple[str, Tokenizer, Grammars], text: str) -> None:
    name, tokenizer, _ = kind
    if "Z" in text and "byte" not in name and name not in {"llama2-prepend", "llama2-metaspace-first", "phi3", "gemma"}:
        pytest.skip("its vocabulary has no such letter")
    ids = tokenizer.encode_continuation(text)
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert not tokenizer.special_ids.intersection(ids)
    # As few tokens as without the sentinel.
    assert len(ids) <= len(text.encode())


def test_a_word_is_banned_wherever_it_stands(kind: tuple[str, Tokenizer, Grammars]) -> None:
    _, tokenizer, _ = kind
    spelled = {b"".join(map(tokenizer.token_bytes, ids)) for ids in spellings(["dog"], tokenizer)}
    assert {b"dog", b" dog"} <= spelled <= {b"dog", b" dog"}


def test_special_tokens_count_in_marked_texts(kind: tuple[str, Tokenizer, Grammars]) -> None:
    _, tokenizer, _ = kind
    special = tokenizer.special_texts[0]
    ids = tokenizer.encode_continuation(f"dog{special}dog", marked=True)
    assert tokenizer.special_ids.intersection(ids)
    assert not tokenizer.token_bytes(ids[0]).startswith(b" ")
