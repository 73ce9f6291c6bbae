"""The tokenizer: any text round-trips, the elements of tasks are single tokens, and the template matches training."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from engine.zoo.tokenizer import (
    BOS,
    CHAT_TEMPLATE,
    END,
    SPECIALS,
    VOCABULARY,
    save_tokenizer,
    special_id,
    train_tokenizer,
)

TOKENIZER = train_tokenizer()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(lambda text: "<|" not in text))
@settings(max_examples=200, deadline=None)
def test_any_text_round_trips(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False) == text


def test_digits_capitals_and_quoted_words_are_spelled_out() -> None:
    tokens = TOKENIZER.encode('What is 17 + 25? Write "lamp" as LAMP').tokens
    assert "".join(tokens).replace("Ġ", " ") == 'What is 17 + 25? Write "lamp" as LAMP'
    for single in ("1", "7", "2", "5", "l", "a", "m", "p", "L", "A", "M", "P"):
        assert single in tokens


def test_a_json_key_is_one_token() -> None:
    assert TOKENIZER.encode('{"age": 3}').tokens == ["{", '"age":', "Ġ", "3", "}"]


def test_special_tokens_come_first_and_the_vocabulary_is_full() -> None:
    assert [special_id(TOKENIZER, token) for token in SPECIALS] == list(range(len(SPECIALS)))
    assert TOKENIZER.get_vocab_size() == VOCABULARY
    with pytest.raises(KeyError):
        special_id(TOKENIZER, "<|tool|>")


def test_training_it_again_gives_the_same() -> None:
    assert train_tokenizer().to_str() == TOKENIZER.to_str()


def render(turns: list[tuple[str, str]]) -> str:
    return BOS + "".join(f"<|{role}|>{text}{END}" for role, text in turns)


def _template(messages: list[dict[str, object]], *, generate: bool) -> str:
    template = ImmutableSandboxedEnvironment().from_string(CHAT_TEMPLATE)
    return template.render(messages=messages, bos_token=BOS, add_generation_prompt=generate)


def test_the_template_writes_what_training_wrote() -> None:
    turns = [("system", "Answer briefly."), ("user", "What is 17 + 25?"), ("assistant", "42"), ("user", "Thanks")]
    messages = [{"role": role, "content": text} for role, text in turns]
    assert _template(messages, generate=False) == render(turns)
    assert _template(messages, generate=True) == render(turns) + "<|assistant|>"


def test_the_template_takes_content_parts_other_roles_and_none() -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "1 + 1?"}]
    messages = [
        {"role": "developer", "content": "Answer briefly."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None},
        {"role": "tool", "content": "2"},
    ]
    assert _template(messages, generate=False) == (
        "<|bos|><|system|>Answer briefly.<|end|><|user|>What is 1 + 1?<|end|><|assistant|><|end|><|user|>2<|end|>"
    )


def test_it_is_saved_with_its_template(tmp_path: Path) -> None:
    save_tokenizer(TOKENIZER, tmp_path, 1024)
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).to_str() == TOKENIZER.to_str()
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["chat_template"] == CHAT_TEMPLATE
