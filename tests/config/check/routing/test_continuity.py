"""Where a file asks for answers that go on, and its rungs cannot."""

from pathlib import Path

import pytest

from config.load import load, parse

UPSTREAMS = """\
schema = 1
[upstreams.one]
urls = ["https://one.example/v1"]
ONE
[upstreams.two]
urls = ["https://two.example/v1"]
TWO
[models.chat]
[tiers.default]
[[routes]]
name = "chat"
use = { ladder = "all" }
ROUTE
[[ladders.all]]
to = "one"
RETRIES
"""
ENGINE = UPSTREAMS.replace('[upstreams.two]\nurls = ["https://two.example/v1"]', '[engines.two]\nmodel = "m"')
SECOND = '[[ladders.all]]\nto = "two"\n'
GOES_ON, ASKED, RETRIES = 'supports = ["continue"]', 'midstream = "continue"', "retries = 1"


def warned(text: str, one: str, two: str, route: str, retries: str) -> bool:
    text = text.replace("ONE", one).replace("TWO", two).replace("ROUTE", route).replace("RETRIES", retries)
    return any('"continue" needs' in str(each) for each in parse(text, Path("/etc/x.toml")).warnings)


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        # One upstream.
        (UPSTREAMS, ("", "", ASKED, ""), True),
        (UPSTREAMS, ("", "", ASKED, RETRIES), True),
        (UPSTREAMS, (GOES_ON, "", ASKED, ""), True),
        (UPSTREAMS, (GOES_ON, "", ASKED, "retries = 0"), True),
        (UPSTREAMS, (GOES_ON, "", ASKED, RETRIES), False),
        # Two.
        (UPSTREAMS + SECOND, ("", "", ASKED, RETRIES), True),
        (UPSTREAMS + SECOND, (GOES_ON, "", ASKED, ""), False),
        (UPSTREAMS + SECOND, ("", GOES_ON, ASKED, ""), False),
        # An engine.
        (ENGINE + SECOND, ("", "", ASKED, ""), False),
        # Not asked for: the default, and another way.
        (UPSTREAMS, ("", "", "", ""), False),
        (UPSTREAMS + SECOND, ("", "", "", RETRIES), False),
        (UPSTREAMS, ("", "", 'midstream = "error"', ""), False),
        (UPSTREAMS, ("", "", 'midstream = "restart"', ""), False),
    ],
)
def test_only_what_the_file_asks_for_and_cannot_have_is_a_warning(text, given, expected) -> None:
    assert warned(text, *given) is expected


def test_a_folder_is_looked_at_as_one_file(tmp_path: Path) -> None:
    text = UPSTREAMS.replace("ONE", "").replace("TWO", "").replace("RETRIES", "")
    begin, routes = text[: text.index("[[routes]]")], text[text.index("[[routes]]") :]
    (tmp_path / "a.toml").write_text(begin + routes.replace("ROUTE", 'when = { has = ["tools"] }'))
    second = routes[: routes.index("[[ladders")].replace('"chat"', '"other"').replace("ROUTE", ASKED)
    (tmp_path / "b.toml").write_text("schema = 1\n" + second)
    found = [each for each in load(tmp_path).warnings if '"continue" needs' in str(each)]
    assert [each.where for each in found] == ["routes[1].midstream"]
