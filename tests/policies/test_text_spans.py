"""An answer is parted between words, and never inside JSON, code or markup. `|` marks where it may be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.text_spans import TextSpans

TEXTS = [
    "plain| |words| |and",
    "42| |and| |4711",
    "Yes|,| |3|.|5",
    '{"score": 4}| |done',
    '[1, 2, {"a": "]}"}]| |done',
    '{"a": "\\"}"}| |so',
    '{"a": "\\\\"}| |so',
    'Here|:| |{"why": [1, 2]}| |good',
    "```json\n{1}\n```|\n|ok",
    "see| |`|x|`| |there",
    "<a><b>1</b></a>| |done",
    "<a href='x'>1</a>| |done",
    "<br/>|text| |more",
    "1| |<| |2",
    "a| |[note never closed {",
    "日|本|語|の|文|。",
    "ไ|ท|ย",
    "l|'|été| |à| |Paris",
]


@pytest.mark.parametrize("marked", TEXTS)
def test_where_a_text_may_be_parted(marked: str) -> None:
    """Character by character, the finest parting there is."""
    spans, found = TextSpans(), ""
    for character in marked.replace("|", ""):
        found += ("|" if spans.may_part_before(character) else "") + character
        spans.feed(character)
    assert found == marked


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, st.lists(st.integers(1, 5), min_size=1), st.booleans())
def test_json_is_never_parted_however_it_comes(value: object, sizes: list[int], ascii_only: bool) -> None:
    document = json.dumps({"value": value}, ensure_ascii=ascii_only)
    text = f"It is: {document} Good."
    begin, end = text.index("{"), text.index("{") + len(document)
    spans, at, turn = TextSpans(), 0, 0
    while at < len(text):
        piece = text[at : at + sizes[turn % len(sizes)]]
        if begin < at < end:
            assert not spans.may_part_before(piece), (text[:at], piece)
        spans.feed(piece)
        at, turn = at + len(piece), turn + 1
    assert spans.may_part_before(" more")


def test_a_text_of_nothing_is_not_parted() -> None:
    spans = TextSpans()
    assert not spans.may_part_before("x")
    spans.feed("")
    assert not spans.may_part_before("x")
