"""An answer is split between words, and never inside JSON, code or markup. `¦` marks where it may be split."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.cascade.text_spans import TextSpans

TEXTS = [
    "plain¦ ¦words¦ ¦and¦ ¦more",
    "l'été¦ ¦à¦ ¦Paris",
    "well-known and¦ ¦e.g.¦ ¦this",
    # Numbers and their units.
    "42 and¦ ¦4711",
    "It¦ ¦is¦ ¦3.14 km¦ ¦away,¦ ¦says¦ ¦he",
    "1,000.50 EUR¦ ¦for¦ ¦it",
    "The¦ ¦5 %¦ ¦of¦ ¦it",
    "It¦ ¦is¦ ¦12:30 h¦ ¦now",
    "It¦ ¦costs¦ ¦$5 and $6 in¦ ¦all.¦\nNext¦ ¦line¦ ¦here",
    # Addresses.
    "see¦ ¦https://a.b/c?d=e,f¦ ¦now",
    "mail¦ ¦me@x.org¦ ¦now",
    "<https://x.y>¦ ¦is¦ ¦it¦ ¦now",
    # JSON, alone and in prose.
    '{"score": 4}¦ ¦done',
    '[1, 2, {"a": "]}"}]¦ ¦done',
    '{"a": "\\"}"}¦ ¦so',
    '{"a": "\\\\"}¦ ¦so',
    'Well,¦ ¦here:¦ ¦{"why": [1, 2]}¦ ¦good',
    "a¦ ¦[note never closed {",
    # Code.
    "```json\n{1}\n```¦\nok¦ ¦then¦ ¦so",
    "~~~\na b\n~~~¦\nok¦ ¦then¦ ¦so",
    "````\n```\na b\n```\n````¦\nok¦ ¦then¦ ¦so",
    "see¦ ¦`x y[`¦ ¦there",
    # Markup.
    "<a><b>1 2</b></a>¦ ¦done¦ ¦ok",
    "<a href='x'>1 2</a>¦ ¦done",
    "Well,¦ ¦so¦ ¦<report>a <b/> c</report>¦ ¦done¦ ¦ok",
    "Well,¦ ¦so¦ ¦<report>a <p>b</report>¦ ¦done¦ ¦ok",
    "<br/>¦ ¦text¦ ¦more",
    "<br>¦ ¦text¦ ¦more",
    "<!-- a > b -->¦ ¦so¦ ¦it",
    "1 < ¦2 and¦ ¦so",
    "Vec<String>¦ ¦is¦ ¦a¦ ¦type",
    # Mathematics.
    "so¦ ¦$a + b$¦ ¦is¦ ¦it",
    "so¦ ¦$$a + b$$¦ ¦is¦ ¦it",
    "so¦ ¦\\(a (+) b\\)¦ ¦is¦ ¦it",
    "so¦ ¦\\[a + b\\]¦ ¦is¦ ¦it",
    "\\begin{align}\na b \\end{align}¦ ¦so¦ ¦it¦ ¦is",
    # Tables and lists of fields.
    "name: Bob\nage: 4\n\nThat is¦ ¦all¦ ¦there¦ ¦is",
    "Sure¦ ¦thing.¦\n\nname: Bob x\nitems:\n  - a b\n  - c\nThat is¦ ¦all",
    "x¦ = 5\ny = 6\nThat is¦ ¦it¦ ¦now",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\nSo it¦ ¦is¦ ¦now",
    # Quotes.
    'He¦ ¦said¦ ¦"good morning all"¦ ¦to¦ ¦me',
    "He¦ ¦said¦ ¦“good morning”¦ ¦to¦ ¦me",
    'a¦ ¦5"¦ ¦pipe¦ ¦is¦ ¦it',
    'a¦ ¦"quote never closed\nNext¦ ¦line¦ ¦is¦ ¦fine',
    # Prose that is formatted.
    "**Bold¦ ¦words**¦ ¦here¦ ¦and",
    "#¦ ¦Title¦ ¦here¦\n\nText¦ ¦is¦ ¦here",
    "- one¦ ¦two¦\n- three¦ ¦four",
    # Scripts without spaces.
    "日¦本¦語¦の¦文¦。",
    "価¦格¦は¦3.14元¦で¦す",
    "ไท¦ย",
    "กิ¦น",
    "日¦本¦の¦コンピュータ¦だ",
]


@pytest.mark.parametrize("marked", TEXTS)
def test_where_a_text_may_be_split(marked: str) -> None:
    """One character at a time."""
    spans, result = TextSpans(), ""
    for character in marked.replace("¦", ""):
        result += ("¦" if spans.may_split_before(character) else "") + character
        spans.feed(character)
    assert result == marked


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, st.lists(st.integers(1, 5), min_size=1), st.booleans())
def test_json_is_never_split_whatever_the_pieces(value: object, sizes: list[int], ascii_only: bool) -> None:
    document = json.dumps({"value": value}, ensure_ascii=ascii_only)
    text = f"It is: {document} Good."
    begin, end = text.index("{"), text.index("{") + len(document)
    spans, at, turn = TextSpans(), 0, 0
    while at < len(text):
        piece = text[at : at + sizes[turn % len(sizes)]]
        if begin < at < end:
            assert not spans.may_split_before(piece), (text[:at], piece)
        spans.feed(piece)
        at, turn = at + len(piece), turn + 1
    assert spans.may_split_before(" more")


def test_an_empty_text_is_not_split() -> None:
    spans = TextSpans()
    assert not spans.may_split_before("x")
    spans.feed("")
    assert not spans.may_split_before("x")
