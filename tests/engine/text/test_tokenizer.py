import json

import pytest
import tokenizers

from engine.errors import ModelError, RequestRefused
from engine.sampling.grammar import Grammar, Grammars
from engine.text.tokenizer import Tokenizer
from tests.engine import tiny_tokenizers


@pytest.fixture
def directory(tmp_path):
    tiny_tokenizers.byte_level().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(directory, name, value):
    (directory / name).write_text(json.dumps(value))


def test_end_ids_are_gathered_from_all_files(directory):
    assert Tokenizer.load(directory).eos_ids == frozenset()
    write(directory, "config.json", {"eos_token_id": 5})
    write(directory, "generation_config.json", {"eos_token_id": [6, 7]})
    assert Tokenizer.load(directory).eos_ids == {5, 6, 7}
    write(directory, "tokenizer_config.json", {"eos_token": {"content": tiny_tokenizers.EOS}})
    end = tiny_tokenizers.byte_level().token_to_id(tiny_tokenizers.EOS)
    assert Tokenizer.load(directory).eos_ids == {5, 6, 7, end}
    write(directory, "tokenizer_config.json", {"eos_token": "no such token"})
    write(directory, "generation_config.json", {"eos_token_id": None})
    assert Tokenizer.load(directory).eos_ids == {5}


@pytest.mark.parametrize("value", ["5", [1, "2"], True, -1, 2.5])
def test_end_ids_must_be_ids(directory, value):
    write(directory, "generation_config.json", {"eos_token_id": value})
    with pytest.raises(ModelError, match=r"generation_config\.json: eos_token_id"):
        Tokenizer.load(directory)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("tokenizer.json", "{}", "tokenizer_unreadable"),
        ("tokenizer.json", "not json", "tokenizer_unreadable"),
        ("tokenizer_config.json", "not json", "model_files"),
        ("config.json", "[1]", "model_files"),
    ],
)
def test_a_broken_file_is_named(directory, name, content, code):
    (directory / name).write_text(content)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")) as caught:
        Tokenizer.load(directory)
    assert caught.value.code == code


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"tokenizer\.json does not exist"):
        Tokenizer.load(tmp_path)


def test_a_prompt_is_never_cut_or_padded(directory):
    inner = tiny_tokenizers.tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    inner.enable_truncation(3)
    inner.enable_padding(length=200)
    inner.save(str(directory / "tokenizer.json"))
    text = "the quick brown fox " * 5
    tokenizer = Tokenizer.load(directory)
    assert tokenizer.encode(text) == tiny_tokenizers.byte_level().encode(text).ids


def test_special_tokens_around_a_text_are_a_choice():
    from tokenizers.processors import TemplateProcessing

    inner = tiny_tokenizers.tokenizers.Tokenizer.from_str(tiny_tokenizers.byte_level().to_str())
    bos = inner.token_to_id("<|bos|>")
    inner.post_processor = TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", bos)])
    tokenizer = Tokenizer(inner, frozenset())
    without = tokenizer.encode("dog", add_special_tokens=False)
    assert tokenizer.encode("dog") == [bos, *without]


def test_a_long_text_has_the_ids_of_its_lines():
    tokenizer = tiny_tokenizers.byte_level_tokenizer()
    line = "What is 17 + 25?\n"
    assert len(line) * 1000 > 8_000
    assert tokenizer.encode(line * 1000) == tokenizer.encode(line) * 1000


def test_the_longest_token_is_found():
    tokenizer = tiny_tokenizers.byte_level_tokenizer()
    longest = tokenizer.longest_token_bytes
    lengths = [len(tokenizer.token_bytes(token_id)) for token_id in range(tokenizer.vocab_size)]
    assert longest == max(lengths)


def test_tags_of_tool_calls_are_text_even_if_the_file_calls_them_special():
    inner = tokenizers.Tokenizer.from_str(tiny_tokenizers.byte_level().to_str())
    inner.add_special_tokens(["<tool_call>", "</tool_call>", "<|other|>"])
    tokenizer = Tokenizer(inner, frozenset())
    ids = tokenizer.encode("<tool_call>a</tool_call><|other|>")
    assert len(ids) == 4
    assert tokenizer.decode(ids) == "<tool_call>a</tool_call>"
    assert {"<tool_call>", "<|other|>"} <= set(tokenizer.special_texts), "a message cannot spell them"
    state = Grammars(tokenizer).compile(Grammar("choice", '["<tool_call>a"]')).start()
    assert state.allowed([], tokenizer.vocab_size)[ids[0]]


@pytest.mark.parametrize("spells", [True, False])
def test_tokens_as_a_whole(directory, spells):
    tokenizer = Tokenizer.load(directory, spells=spells)
    ids = [*tokenizer.encode("the café"), tokenizer.encode(tiny_tokenizers.EOS)[0]]
    assert "".join(tokenizer.spellings(ids)) == f"theĠcafÃ©{tiny_tokenizers.EOS}"
    assert tokenizer.whole_text(ids) == f"the café{tiny_tokenizers.EOS}"
    assert (tokenizer.spellings([]), tokenizer.whole_text([])) == ([], "")
    for read in (tokenizer.spellings, tokenizer.whole_text):
        with pytest.raises(RequestRefused, match="no token 5000") as refused:
            read([3, 5000])
        assert refused.value.code == "token_out_of_vocabulary"
