"""Syntax errors are explained, with their position and a correction."""

from pathlib import Path

import pytest

from config.load import parse
from config.problems.errors import ConfigError

TABLE = [
    ("a = 1\na = 2\n", 2, "'a' is given twice: on line 1, and here", "it once"),
    ("[t]\nx = 1\ny = 2\nx = 3\n", 4, "'t.x' is given twice: on line 2", ""),
    ("[t]\nx = 1\n[u]\n[t]\n", 4, "'t' is given twice: on line 1", ""),
    ("[[r]]\nuse.l = 1\n[[r]]\nname = 1\nname = 2\n", 5, "'r[1].name' is given twice: on line 4", ""),
    ("r = [{ a = 1, a = 2 }]\n", 1, "'r[0].a' is given twice", ""),
    ("x = { a = 1 }\n[x]\n", 2, "'x' is given twice: on line 1", ""),
    ("x = 1\nx.y = 2\n", 2, "'x' is given twice: on line 1", ""),
    ("t = 5s\n", 1, "something follows the value", 'write "5s"'),
    ("t = 25%\n", 1, "something follows the value", "write 0.25"),
    ("m = 4MB\n", 1, "something follows the value", 'write "4MiB"'),
    ("t = { ttft = 5s }\n", 1, "", 'write "5s"'),
    ("w = True\n", 1, "not a value", "write true"),
    ("w = no\n", 1, "not a value", "write false"),
    ("w = null\n", 1, "not a value", "the line left out"),
    ("m = small\n", 1, "not a value", "quotation marks"),
    ("m = .5\n", 1, "not a value", "write 0.5"),
    ("m =\n", 1, "not a value", "a value"),
    ('m = "small\nn = 1\n', 1, "a string is opened and not closed", "a quotation mark"),
    ('m: "small"\n', 1, "no '=' after the key", 'write m = "small"'),
    ('a = 1\nm = ["x", "y"\n\nb = 2\n', 2, "a list is opened and not closed", "']'"),
    ("a = 1\nm = { x = 1\n", 2, "a table in braces is opened and not closed", "'}'"),
    ("[t\nx = 1\n", 1, "the ']' of the table's header is missing", ""),
    ("x\n", 1, "no '=' after the key", "KEY = VALUE"),
    ("= 1\n", 1, "neither a key", ""),
]


@pytest.mark.parametrize(("text", "line", "message", "expected"), TABLE)
def test_message_and_correction(text: str, line: int, message: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("/x.toml"))
    (problem,) = caught.value.problems
    assert problem.line == line, problem
    assert message in problem.message
    assert expected in problem.expected
    assert "(at " not in problem.message
