"""Special tokens that a message spells stay text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RequestRefused
from engine.text.literal import break_special, pieces

SPECIAL = ("<|end|>", "<|user|>", "<|end|>x")


def test_ordinary_messages_stay_as_they_are():
    messages = [{"role": "user", "content": "2 < 3 |end|"}]
    assert break_special(messages, SPECIAL) == (messages, "")


@given(st.lists(st.sampled_from(["<|end|>", "<|user|>", "<|", "end", "|>", "x", "\ufdd0"]), max_size=12))
def test_no_piece_holds_a_special_token_and_the_text_is_kept(parts):
    text = "".join(parts)
    messages, mark = break_special([{"role": "user", "content": text}], SPECIAL)
    found = pieces(messages[0]["content"], mark)
    assert "".join(found) == text
    assert not any(token in piece for token in SPECIAL for piece in found)


def test_messages_with_every_mark_are_refused():
    text = "<|end|>" + "".join(map(chr, range(0xFDD0, 0xFDF0)))
    with pytest.raises(RequestRefused):
        break_special([{"role": "user", "content": text}], SPECIAL)
