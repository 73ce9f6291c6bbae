import json
import re

import msgspec
import numpy as np
import pytest

from engine.errors import RequestRefused
from engine.sampling.grammar import MAX_CHARACTERS, Grammar, Grammars
from engine.testing.fake_runner import FakeRunner
from engine.text.tokenizer import Tokenizer
from tests.engine import tiny_tokenizers
from tests.engine.driving import make_engine, run, submit

PERSON = json.dumps(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(tiny_tokenizers.byte_level_tokenizer())


def ids(text: str) -> list[int]:
    return tiny_tokenizers.byte_level_tokenizer().encode(text)


EOS = min(tiny_tokenizers.byte_level_tokenizer().eos_ids)
VOCAB = 512


def state_after(grammars: Grammars, grammar: Grammar, text: str):
    state = grammars.compile(grammar).start()
    state.advance(ids(text))
    assert state.error is None
    return state


@pytest.mark.parametrize(
    ("grammar", "text", "end", "more"),
    [
        (Grammar("regex", "[0-9]{3}"), "12", False, "3"),
        (Grammar("regex", "[0-9]+"), "12", True, "3"),
        (Grammar("choice", '["yes", "yesterday"]'), "yes", True, "t"),
        (Grammar("choice", '["say \\"hé\\"\\n"]'), 'say "h', False, "é"),
        (Grammar("grammar", 'start: "a" b\nb: "b"+'), "a", False, "b"),
        (Grammar("grammar", 'root ::= "a" ("b" | "c")'), "a", False, "c"),
        (Grammar("json_schema", '{"type": "object"}'), '{"a": {"b": []', False, "}"),
        (Grammar("json_schema", PERSON), '{"name": "x', False, '"'),
    ],
)
def test_what_may_follow(grammars, grammar, text, end, more):
    allowed = state_after(grammars, grammar, text).allowed(ids(text), VOCAB)
    assert len(allowed) == VOCAB
    assert allowed[EOS] == end
    assert allowed[ids(more)[0]]
    assert not allowed[[i for i in tiny_tokenizers.byte_level_tokenizer().special_ids if i != EOS]].any()
    assert not allowed[tiny_tokenizers.byte_level_tokenizer().vocab_size :].any()


def test_complete_only_when_nothing_can_follow(grammars):
    assert state_after(grammars, Grammar("regex", "[0-9]{3}"), "123").complete
    state = state_after(grammars, Grammar("regex", "[0-9]+"), "123")
    assert not state.complete
    state.advance([EOS])
    assert state.complete


def test_a_draft_is_looked_at_and_forgotten(grammars):
    state = state_after(grammars, Grammar("regex", "[ab]{2}[cd]"), "a")
    now = state.allowed(ids("a"), VOCAB)
    after = state.allowed([*ids("a"), *ids("b")], VOCAB)
    assert (now[ids("b")[0]], now[ids("c")[0]], after[ids("b")[0]], after[ids("c")[0]]) == (True, False, False, True)
    ended = [*ids("a"), *ids("b"), *ids("d"), EOS]
    for draft in (ended, [*ended, EOS], [*ids("a"), *ids("q")]):
        state.allowed(draft, VOCAB)
        assert state.error is None
        assert np.array_equal(state.allowed(ids("a"), VOCAB), now)


def test_copies_go_their_own_ways(grammars):
    one = state_after(grammars, Grammar("regex", "[0-9]{3}"), "1")
    two = one.copy()
    one.advance(ids("23"))
    assert one.complete
    assert not two.complete


def test_white_space_is_bounded(grammars):
    state = state_after(grammars, Grammar("json_schema", PERSON), "{")
    state.advance(ids("\n") * 40)
    assert state.error is not None
    assert state.allowed(ids("{"), VOCAB).all()


@pytest.mark.parametrize("form", ["json_schema", "grammar"])
def test_a_name_is_spelled_in_one_way(grammars, form):
    """Otherwise an additional property could be one of `properties`, with another schema."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "é": {"type": "integer"}}}
    source = json.dumps(schema)
    grammar = grammars.compile(Grammar(form, source if form == "json_schema" else f"start: %json {source}"))
    for text, possible in (('{"b', True), ('{"\\n', True), ('{"\\u0061', False), ('{"\\u00e9', False)):
        state = grammar.start()
        state.advance(ids(text))
        assert (state.error is None) is possible, text


@pytest.mark.parametrize("required", ["\x01", "a\x1b[0m", "\x7f"])
def test_control_characters_that_a_schema_requires_can_be_written(grammars, required):
    source = json.dumps({"type": "array", "prefixItems": [{"const": required}], "items": False, "minItems": 1})
    assert state_after(grammars, Grammar("json_schema", source), f"[{json.dumps(required)}]").complete


def test_without_an_end_token_it_ends_where_nothing_can_follow():
    grammars = Grammars(Tokenizer(tiny_tokenizers.byte_level(), frozenset()))
    state = grammars.compile(Grammar("regex", "a{1,2}")).start()
    state.advance(ids("a"))
    assert np.flatnonzero(state.allowed(ids("a"), VOCAB)).tolist() == ids("a")
    state.advance(ids("a"))
    assert state.complete


@pytest.mark.parametrize(
    ("grammar", "why"),
    [
        (Grammar("regex", "(a"), "unclosed group"),
        (Grammar("regex", "(?=a)b"), "look-ahead"),
        (Grammar("grammar", "start: x"), "unknown name"),
        (Grammar("grammar", "root ::= ("), "Expected"),
        (Grammar("json_schema", '{"type": "nonsense"}'), "nonsense"),
        (Grammar("json_schema", '{"type": "string", "not": {"const": "a"}}'), "not"),
        (Grammar("json_schema", '{"$ref": "http://example.org/x"}'), "does not fetch"),
        (Grammar("json_schema", '{"a":' * 900 + "1" + "}" * 900), "recursion"),
        (Grammar("regex", "a" * (MAX_CHARACTERS + 1)), str(MAX_CHARACTERS)),
    ],
)
def test_a_bad_grammar_is_refused_with_the_reason(grammars, grammar, why):
    with pytest.raises(RequestRefused) as refused:
        grammars.compile(grammar)
    assert refused.value.code == "grammar_invalid"
    assert why in refused.value.message


def test_lenient_passes_over_what_it_cannot_enforce(grammars):
    assert grammars.compile(Grammar("json_schema", '{"type": "string", "not": {"const": "a"}}', lenient=True))


def test_the_latest_are_kept(grammars):
    assert grammars.compile(Grammar("regex", "abc")) is grammars.compile(Grammar("regex", "abc"))


# --- in an engine -------------------------------------------------------------------------------------------------


def engine_of(**changes):
    return make_engine(FakeRunner(vocab_size=VOCAB), **changes)


@pytest.mark.parametrize("seed", range(5))
def test_json_that_fits_its_schema(grammars, seed):
    asked = [
        submit(index, [1, 2, index], grammar=grammars.compile(Grammar("json_schema", PERSON)), **params)
        for index, params in enumerate(
            [
                {"temperature": 1.0, "seed": seed, "max_tokens": 400},
                {"temperature": 1.0, "seed": seed + 100, "max_tokens": 400, "ignore_eos": False, "min_tokens": 390},
            ]
        )
    ]
    for answer in run(engine_of(), *asked).values():
        assert answer.finish.reason == "stop"
        value = json.loads(answer.text)
        assert set(value) == {"name", "age"}
        assert 0 <= value["age"] <= 150


def test_a_full_answer_stops_even_at_its_last_token(grammars):
    answer = run(engine_of(), submit(0, [1], grammar=grammars.compile(Grammar("regex", "[0-9]{3}")), max_tokens=3))[0]
    assert (len(answer.tokens), answer.finish.reason) == (3, "stop")
    cut = run(engine_of(), submit(0, [1], grammar=grammars.compile(Grammar("regex", "[0-9]{3}")), max_tokens=2))[0]
    assert cut.finish.reason == "length"


def test_min_tokens_bans_the_end_while_something_else_is_allowed(grammars):
    grammar = grammars.compile(Grammar("regex", "[0-9]{1,6}"))
    for seed in range(8):
        answer = run(
            engine_of(),
            submit(0, [1], grammar=grammar, min_tokens=5, temperature=1.0, seed=seed, ignore_eos=False),
        )[0]
        assert re.fullmatch("[0-9]{5,6}", answer.text)


def test_a_stop_string_ends_it_earlier(grammars):
    answer = run(engine_of(), submit(0, [1], grammar=grammars.compile(Grammar("regex", "aab+")), stop=("ab",)))[0]
    assert (answer.text, answer.finish.stop) == ("a", "ab")


def test_a_bias_cannot_break_the_grammar(grammars):
    outside = ids("z")[0]
    answer = run(
        engine_of(),
        submit(0, [1], grammar=grammars.compile(Grammar("regex", "[0-9]{3}")), logit_bias=((outside, 100.0),)),
    )[0]
    assert re.fullmatch("[0-9]{3}", answer.text)


def test_an_answer_begun_elsewhere_goes_on_in_its_grammar(grammars):
    grammar = grammars.compile(Grammar("regex", "ab[0-9]{2}"))
    answer = run(engine_of(), submit(0, [1, *ids("a"), *ids("b"), *ids("7")], output_prefix=3, grammar=grammar))[0]
    assert re.fullmatch("[0-9]", answer.text)
    for text, why in (("ax", "not"), ("ab12", "complete")):
        prefix = [token_id for character in text for token_id in ids(character)]
        with pytest.raises(RequestRefused, match=why) as refused:
            engine_of().submit(submit(0, [1, *prefix], output_prefix=len(prefix), grammar=grammar))
        assert refused.value.code == "grammar_violated"


def test_what_breaks_a_grammar_fails_alone(grammars):
    """A runner that ignores the mask stands in for a matcher that fails."""
    disobeys = FakeRunner(vocab_size=VOCAB, script=lambda row: (ids("z")[0], 1.0) if row.grammar else None)
    answers = run(
        make_engine(disobeys), submit(0, [1], grammar=grammars.compile(Grammar("regex", "[0-9]+"))), submit(1, [1])
    )
    assert (answers[0].finish.reason, answers[0].finish.code) == ("error", "grammar_failed")
    assert answers[1].finish.reason == "length"
    assert len(answers[1].tokens) == 8


def test_drafts_obey_the_grammar(grammars):
    grammar = grammars.compile(Grammar("regex", "([0-9]{2},){4}"))
    prompt = [token_id for character in "12,34,56,78," * 3 for token_id in ids(character)]
    plain = run(engine_of(), submit(0, prompt, grammar=grammar, max_tokens=30))[0]
    for draft in (plain.tokens, plain.tokens[:5], [*plain.tokens[:3], ids("z")[0], 1], [EOS, EOS, 3]):
        command = submit(0, prompt, grammar=grammar, max_tokens=30)
        drafted = run(engine_of(), msgspec.structs.replace(command, draft=tuple(draft)))[0]
        assert (drafted.tokens, drafted.finish.reason) == (plain.tokens, "stop")
