"""Positions by path, for all ways of writing a value in TOML."""

import tomllib

import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from config.problems.source_map import Path, Position, SourceMap, show_path

TRICKY = '''\
# a = 1
a = 1 # b = 2
"quoted key" . 'x' = """
[not.a.header]
escaped \\"""quotes
"""
b = [ # comment ]
  1, { c = 'l]t', d."e.f" = [ {}, ] },
  \'\'\'
]]\'\'\', "x\\\\",
] # end
[[t.u]]
k = 1979-05-27 07:32:00
[t.u.v]
w = 2
[[t.u]]
k = true
[[t.u.v2]]
z.y = -inf
'''


def test_tricky_documents() -> None:
    tomllib.loads(TRICKY)
    source = SourceMap(TRICKY)
    lines = TRICKY.split("\n")

    def seen(path: Path) -> str:
        place = source.value(path)
        return lines[place.line - 1][place.column - 1 :]

    assert seen(("a",)) == "1 # b = 2"
    assert source.value(("quoted key", "x")) == Position(3, 22)
    assert seen(("b", 0)) == "1, { c = 'l]t', d.\"e.f\" = [ {}, ] },"
    assert seen(("b", 1, "c")).startswith("'l]t'")
    assert seen(("b", 1, "d", "e.f", 0)) == "{}, ] },"
    assert seen(("b", 3)).startswith('"x')
    assert seen(("t", "u", 0, "k")) == "1979-05-27 07:32:00"
    assert seen(("t", "u", 0, "v", "w")) == "2"
    assert seen(("t", "u", 1, "k")) == "true"
    assert seen(("t", "u", 1, "v2", 0, "z", "y")) == "-inf"
    assert source.key(("t", "u", 1)) == Position(16, 5)
    assert source.value(("t", "u", 1, "missing")) == Position(16, 5)
    assert source.key(("nowhere", 3)) == Position(1, 1)
    for path in [("a",), ("t", "u", 1), ("t", "u", 1, "v2", 0, "z", "y"), ("b", 1, "c")]:
        assert source.holds(path)
    for path in [("t", "u", 1, "missing"), ("nowhere", 3), ("t", "u", 2)]:
        assert not source.holds(path)


def test_paths_print_as_they_are_written() -> None:
    assert show_path(("ladders", "safe", 0, "to")) == "ladders.safe[0].to"
    assert show_path(("a b", 'q"')) == '"a b"."q\\""'


SCALARS = st.one_of(
    st.integers(-(2**40), 2**40),
    st.booleans(),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab.\"' ]#=é", min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


def leaves(value: object, path: Path = ()) -> list[tuple[Path, object]]:
    if isinstance(value, dict):
        return [leaf for key, member in value.items() for leaf in leaves(member, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, member in enumerate(value) for leaf in leaves(member, (*path, index))]
    return [(path, value)]


@settings(max_examples=150, deadline=None)
@given(document=st.dictionaries(st.text("xyz.\"'[é", min_size=1, max_size=4), VALUES, max_size=4))
def test_every_value_is_found_at_its_position(document: dict[str, object]) -> None:
    text = tomlkit.dumps(document)
    source = SourceMap(text)
    lines = text.split("\n")
    for path, value in leaves(tomllib.loads(text)):
        place = source.value(path)
        text_there = lines[place.line - 1][place.column - 1 :]
        if isinstance(value, str):
            assert text_there[0] in "\"'"
        else:
            assert text_there.startswith(str(value).lower())
        assert source.key(path) <= place
