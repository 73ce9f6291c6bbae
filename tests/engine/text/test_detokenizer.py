import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ModelError
from engine.text.token_bytes import TokenSpelling, byte_level_alphabet
from engine.text.tokenizer import Tokenizer
from tests.engine import tiny_tokenizers

BYTE_LEVEL = tiny_tokenizers.byte_level_tokenizer()
SENTENCEPIECE = tiny_tokenizers.sentencepiece_tokenizer()
EMOJI = "Grüße 👩‍👩‍👧 aus 東京 🎉, naïve\n\tcafé "


def stream(tokenizer: Tokenizer, token_ids: list[int], prompt: tuple[int, ...] = ()) -> list[str]:
    detokenizer = tokenizer.detokenizer(prompt)
    return [*map(detokenizer.push, token_ids), detokenizer.flush()]


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, SENTENCEPIECE], ids=["byte_level", "sentencepiece"])
@settings(deadline=None)
@given(st.text(max_size=40))
def test_text_comes_back_and_no_piece_holds_half_a_character(tokenizer, text):
    parts = stream(tokenizer, tokenizer.encode(text, add_special_tokens=False))
    # Llama 2's tokenizer encodes a space as U+2581 and cannot distinguish the two; names of special tokens are not
    # text.
    if tokenizer is SENTENCEPIECE:
        text = text.replace("▁", " ")
    assert "".join(parts) == text
    assert "�" in text or not any("�" in part for part in parts)


@settings(deadline=None, max_examples=400)
@given(st.lists(st.integers(0, BYTE_LEVEL.vocab_size - 1), max_size=40))
def test_any_ids_read_as_the_tokenizers_library_reads_them(token_ids):
    expected = tiny_tokenizers.byte_level().decode(token_ids, skip_special_tokens=True)
    assert "".join(stream(BYTE_LEVEL, token_ids)) == expected == BYTE_LEVEL.decode(token_ids)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.integers(0, SENTENCEPIECE.vocab_size - 1), max_size=30))
def test_byte_fallback_reads_as_the_tokenizers_library_reads_it(token_ids):
    """Except for invalid bytes: the library replaces a whole run of byte tokens for one bad byte, we only that byte."""
    spelled = b"".join(SENTENCEPIECE.token_bytes(i) for i in token_ids if i not in SENTENCEPIECE.special_ids)
    ours = "".join(stream(SENTENCEPIECE, token_ids))
    assert ours == spelled.decode(errors="replace").removeprefix(" ")
    if "�" not in ours:
        assert ours == tiny_tokenizers.sentencepiece().decode(token_ids, skip_special_tokens=True)


def test_a_character_appears_with_its_last_byte():
    token_ids = [byte_id(byte) for byte in "é🎉".encode()]
    assert stream(BYTE_LEVEL, token_ids) == ["", "é", "", "", "", "🎉", ""]


def test_hopeless_bytes_do_not_hold_anything_back():
    letter = BYTE_LEVEL.encode("a")[0]
    assert stream(BYTE_LEVEL, [byte_id(0xFF), letter, byte_id(0xE6), letter]) == ["�", "a", "", "�a", ""]
    assert stream(BYTE_LEVEL, [letter, byte_id(0xF0), byte_id(0x9F)]) == ["a", "", "", "�"]


def test_a_space_is_stripped_only_where_the_text_begins():
    the = SENTENCEPIECE.encode("the", add_special_tokens=False)
    assert "".join(stream(SENTENCEPIECE, the)) == "the"
    bos = tiny_tokenizers.sentencepiece().token_to_id("<s>")
    assert "".join(stream(SENTENCEPIECE, the, (bos,))) == "the"
    assert "".join(stream(SENTENCEPIECE, the, (bos, *the))) == " the"


def test_special_tokens_have_no_text_but_added_ones_do():
    ids = BYTE_LEVEL.encode("<think>é<|end|>x", add_special_tokens=False)
    assert "".join(stream(BYTE_LEVEL, ids)) == "<think>éx"
    assert BYTE_LEVEL.token_bytes(ids[-2]) == b"<|end|>"
    assert BYTE_LEVEL.token_bytes(100_000) == b""


def test_emoji_and_accents_stream_whole():
    parts = stream(BYTE_LEVEL, BYTE_LEVEL.encode(EMOJI))
    assert "".join(parts) == EMOJI
    assert len(parts) > len(EMOJI) / 3


def test_the_alphabet_is_the_librarys():
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(byte_level_alphabet()) == set(ByteLevel.alphabet())
    assert sorted(byte_level_alphabet().values()) == list(range(256))


def test_an_entry_outside_the_alphabet_stands_for_itself():
    assert TokenSpelling({"type": "ByteLevel"}).spell("a b") == b"a b"
    assert TokenSpelling({"type": "ByteLevel"}).spell("Ġb") == b" b"


def test_an_unknown_decoder_is_refused():
    with pytest.raises(ModelError, match="WordPiece is not supported"):
        TokenSpelling({"type": "WordPiece", "prefix": "##", "cleanup": True})
    with pytest.raises(ModelError, match="none is not supported"):
        TokenSpelling(None)


def byte_id(byte: int) -> int:
    character = {value: key for key, value in byte_level_alphabet().items()}[byte]
    token_id = tiny_tokenizers.byte_level().token_to_id(character)
    assert codecs.decode(BYTE_LEVEL.token_bytes(token_id), "latin-1") == chr(byte)
    return token_id
