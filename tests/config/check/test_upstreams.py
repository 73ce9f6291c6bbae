"""Problems of upstreams are reported at their place."""

from pathlib import Path

import pytest

from config.load import parse, parse_settings
from config.problems.errors import ConfigError

GOOD = """\
schema = 1
[engines.small]
model = "m/small"
[upstreams.cloud]
urls = ["https://a.example/v1", "http://[::1]:8000/v1?x=1"]
model = "llama"
key = { env = "CLOUD_KEY" }
headers = { x-team = "search" }
concurrent = 8
connect = "2s"
context = 4096
tokenizer = "small"
supports = ["sampling", "continue"]
[models.chat]
[[routes]]
name = "all"
use = { cascade = "up" }
[cascades.up]
stages = ["small", "cloud"]
defer = { threshold = 1.0 }
on_failure = "safe"
[[ladders.safe]]
to = "cloud"
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, Path("/etc/penstock.toml"))
    return [str(problem) for problem in caught.value.problems]


def test_a_good_one() -> None:
    settings = parse_settings(GOOD.replace('{ env = "CLOUD_KEY" }', '{ file = "keys/cloud" }'), Path("/etc/p.toml"))
    cloud = settings.upstreams["cloud"]
    assert cloud.key is not None
    assert cloud.key.file == Path("/etc/keys/cloud")
    assert (cloud.connect, cloud.headers, cloud.supports) == (2.0, {"x-team": "search"}, ("sampling", "continue"))


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ('urls = ["https://a.example/v1", "http://[::1]:8000/v1?x=1"]', "urls = []", "there is no address"),
        ("https://a.example/v1", "ftp://a.example", "this is not an address"),
        (
            'urls = ["https://a.example/v1", "http://[::1]:8000/v1?x=1"]',
            'urls = ["https://a.example/v1"]\nhedge = {}',
            "there is no second address to call",
        ),
        ("concurrent = 8", "concurrent = 8\nhedge = { percentile = 40 }", "percentile"),
        ("concurrent = 8", "concurrent = 8\nhedge = { share = 2 }", "share"),
        ("concurrent = 8", 'concurrent = 8\nstream = "never"', "stream"),
        ("https://a.example/v1", "https://", "this is not an address"),
        ("https://a.example/v1", "https://a.example:99999/v1", "this is not an address"),
        ("https://a.example/v1", "https://me:word@a.example/v1", "may not contain a user or password"),
        ("https://a.example/v1", "https://a.example/v1#x", "may not contain a '#'"),
        ("http://[::1]:8000/v1?x=1", "https://a.example/v1/", "given twice"),
        ('env = "CLOUD_KEY"', "", "exactly one of 'env' and 'file'; neither"),
        ('env = "CLOUD_KEY"', 'env = "A", file = "b"', "exactly one of 'env' and 'file'; both"),
        ("concurrent = 8", 'extra_request_fields = ["a b"]', "is not the name of a field"),
        ("concurrent = 8", 'extra_request_fields = ["user"]', "is a field of the API, which needs no entry"),
        ("concurrent = 8", 'extra_request_fields = ["a", "a"]', "'a' is given twice"),
        ("concurrent = 8", 'extra_fields = "none"', "extra_fields"),
        ("x-team", '"x team"', "not the name of a header"),
        ("x-team", "Host", "is set by the gateway"),
        ("x-team", "Authorization", "must not be in the file"),
        ("key = {", 'key_header = "X-Team"\nkey = {', "must not be in the file"),
        ("key = {", 'key_header = "host"\nkey = {', "cannot carry a key"),
        ('"search"', '"a\\nb"', "printable ASCII"),
        ('tokenizer = "small"', 'tokenizer = "smal"', "there is no engine 'smal'"),
        ('"sampling"', '"samplign"', "did you mean 'sampling'"),
        ("concurrent = 8", "concurrent = 0", "out of range"),
        ('stages = ["small", "cloud"]', 'stages = ["cloud", "small"]', "the small stage is the upstream"),
        ('on_failure = "safe"', 'on_failure = "safe"\nemit = { mode = "verified" }', "cannot verify a draft"),
        ('to = "cloud"', 'to = "clout"', "there is no engine or upstream 'clout'"),
        ("[engines.small]", '[engines.cloud]\nmodel = "x"\n[engines.small]', "an engine has the name 'cloud', too"),
    ],
)
def test_a_mistake_is_reported_once(old: str, new: str, fragment: str) -> None:
    assert old in GOOD
    found = problems(GOOD.replace(old, new, 1))
    assert len([message for message in found if fragment in message]) == 1, found


LADDER = '[[ladders.safe]]\nto = "cloud"\n'


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        (LADDER, f'{LADDER}wait_out = "-1s"\n', "duration"),
        (LADDER, f"{LADDER}wait_out = 2\n", "duration"),
        (
            LADDER,
            f'[[ladders.safe]]\nto = "small"\nwait_out = "1s"\n{LADDER}',
            "the engine 'small' never requests a pause",
        ),
        (LADDER, f'{LADDER}[[ladders.safe]]\nanswer = "x"\nwait_out = "1s"\n', "a static answer has no wait_out"),
        ('use = { cascade = "up" }', 'use = { cascade = "up" }\non_content_filter = "nxt"', "did you mean 'next'"),
        ('use = { cascade = "up" }', 'use = { cascade = "up" }\non_content_filtre = "next"', "'on_content_filter'"),
    ],
)
def test_what_is_done_about_refusals_is_checked(old: str, new: str, fragment: str) -> None:
    assert old in GOOD
    found = problems(GOOD.replace(old, new, 1))
    assert len([message for message in found if fragment in message]) == 1, found


def test_a_pause_longer_than_the_deadline_is_a_warning() -> None:
    loaded = parse_settings(GOOD.replace(LADDER, f'{LADDER}wait_out = "2s"\n'), Path("/etc/p.toml"))
    assert (loaded.ladders["safe"][0].wait_out, loaded.routes[0].on_content_filter) == (2.0, "stop")
    text = GOOD.replace(LADDER, f'{LADDER}wait_out = "45s"\n')
    found = [str(each) for each in parse(text, Path("/etc/p.toml")).warnings]
    assert len([each for each in found if "the pause is never waited for" in each]) == 1, found


def test_a_key_in_the_file_is_not_repeated() -> None:
    found = problems(GOOD.replace("CLOUD_KEY", "sk-this-is-a-secret"))
    assert "not the name of an environment variable" in found[0]
    assert "secret" not in "".join(found)


def test_upstreams_alone_are_enough() -> None:
    text = GOOD.replace('[engines.small]\nmodel = "m/small"\n', "").replace('tokenizer = "small"\n', "")
    text = text.replace('supports = ["sampling", "continue"]\n', "")
    text = text.replace('{ cascade = "up" }', '{ ladder = "safe" }')
    start, end = text.index("[cascades.up]"), text.index("[[ladders")
    assert parse_settings(text[:start] + text[end:], Path("/etc/p.toml")).engines == {}


@pytest.mark.parametrize("name", ["x-api-key", "api-key", "Cookie", "x-goog-api-key"])
def test_a_key_in_another_header_is_a_warning(name: str) -> None:
    text = GOOD.replace('headers = { x-team = "search" }', f'headers = {{ {name} = "opensesame" }}')
    found = [str(message) for message in parse(text, Path("/etc/p.toml")).warnings]
    reported = [message for message in found if "a key must not be in the file" in message]
    assert len(reported) == 1, found
    assert f'key_header = "{name}"' in reported[0]
    assert "opensesame" not in reported[0]
