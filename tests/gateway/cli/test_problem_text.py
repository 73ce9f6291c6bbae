"""Problems on a terminal: with their line, a mark under what is meant, and no secret anywhere."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from config.load import parse
from config.problems.errors import ConfigError
from config.reader import decode_report, encode_report, report
from gateway.cli.problem_text import show_problems

BASE = """\
schema = 1
[upstreams.small]
urls = ["http://h/v1"]
[models.chat]
[[routes]]
name = "rest"
use.ladder = "safe"
[[ladders.safe]]
to = "small"
"""
SECRET = "sk-Zq81hhTTx93b"
PLAIN = "wonderland"


def run(path: Path, *options: str, terminal: bool, **environment: str) -> tuple[int, str]:
    """`penstock check`, its output and its errors together."""
    command = [sys.executable, "-m", "gateway.cli.main", "check", str(path), *options]
    environ = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR"}}
    environ |= {"TERM": "xterm-256color", **environment}
    if not terminal:
        done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
        return done.returncode, done.stdout + done.stderr
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            if not part:
                break
            said += part
        os.close(ours)
    return process.returncode, said.decode().replace("\r\n", "\n")


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    path = tmp_path / "p.toml"
    path.write_text(BASE.replace('"safe"\n', '"saef"  # a comment\n', 1))
    return path


def test_a_terminal_shows_line_mark_and_help(faulty: Path) -> None:
    status, said = run(faulty, terminal=True, NO_COLOR="1")
    assert status == 2
    assert "\x1b[3" not in said
    assert said.startswith(
        f"error: routes[0].use.ladder: there is no ladder 'saef'\n --> {faulty}:7:14\n  |\n"
        '7 | use.ladder = "saef"  # a comment\n  |              ^^^^^^\n'
        "  = help: expected one of: safe\n  = help: did you mean 'safe'?\n"
    )


def test_colours_are_for_terminals_and_for_those_who_ask(faulty: Path) -> None:
    assert "\x1b[1;31merror" in run(faulty, terminal=True)[1]
    assert "\x1b[1;31merror" in run(faulty, "--color", "always", terminal=False)[1]
    assert "\x1b[" not in run(faulty, "--color", "never", terminal=True)[1]
    piped = run(faulty, terminal=False)[1]
    assert "\x1b[" not in piped
    assert piped.splitlines()[0] == (
        f"{faulty}:7:14: routes[0].use.ladder: there is no ladder 'saef'; expected one of: safe; did you mean 'safe'?"
    )


SECRETS = [
    '[upstreams.cloud]\nurls = ["http://a/v1"]\nkey = "S"\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\nkey = { env = "S-" }\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\nkey = { value = "S" }\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\napi_key = "S"\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\nheaders = "S"\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\nheaders = { authorization = "S" }\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\nheaders = { x-token = ["S"] }\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\n[upstreams.cloud.headers]\nx = ["S"]\n',
    '[upstreams.cloud]\nurls = ["http://me:S@a/v1"]\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\npassword = "S"\n',
    '[[keys]]\nid = "k"\ntenant = "t"\nhash = "S"\n',
    '[[keys]]\nid = "k"\ntenant = "t"\nhash = ["S"]\n',
    '[[admin.keys]]\nid = "k"\nhash = "S"\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\nkey = S\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\nkey = "S\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\nkey = "a"\nkey = "S"\n',
    '[server]\ntoken = "S"\n',
    'keys = ["S"]\n',
    'keys = ["x", "S"]\n',
    '[admin]\nkeys = ["S"]\n',
    '[admin]\nkeys = "S"\n',
    '[metrics]\nkeys = ["S"]\n',
    '[upstreams.cloud]\nurls = ["http://a/v1"]\nheaders = { "Authorization: Bearer S" = "x" }\n',
    '[upstreams.cloud]\nurls = ["http://a/v1?api_key=S"]\n',
    '[upstreams.cloud]\nurls = ["http://a/v1?x=1&sig=S"]\n',
]


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("secret", [SECRET, PLAIN])
def test_a_secret_is_never_repeated(text: str, secret: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(BASE + text.replace("S", secret))
    with pytest.raises(ConfigError) as caught:
        parse(path.read_text(), path)
    found = caught.value.problems
    for said in (str(caught.value), show_problems(found).plain, json.dumps([repr(problem) for problem in found])):
        assert secret not in said


@pytest.mark.parametrize(
    "text", ['[[keys]]\nid = "S x"\ntenant = "t"\nhash = "h"\n', '[models.chat2]\ndescription = ["S"]\n']
)
def test_what_looks_like_a_key_is_hidden_wherever_it_stands(text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(BASE + text.replace("S x", SECRET + "!").replace("S", SECRET))
    with pytest.raises(ConfigError) as caught:
        parse(path.read_text(), path)
    assert SECRET not in show_problems(caught.value.problems).plain


@pytest.mark.parametrize("text", SECRETS)
def test_what_a_server_logs_and_its_admin_api_answers_holds_no_secret(text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(BASE + text.replace("S", SECRET))
    raw = encode_report(report(path, None))
    assert SECRET.encode() not in raw
    assert decode_report(raw).problems


def test_a_name_that_is_a_key_is_hidden(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(f'{BASE}[tenants."{SECRET}"]\nwieght = 2\n')
    with pytest.raises(ConfigError) as caught:
        parse(path.read_text(), path)
    assert "unknown key 'wieght'" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_mark_stands_under_wide_letters_and_in_long_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(
        BASE.replace(
            'use.ladder = "safe"', 'use = { ladder = "saef" }\ncomment = "日本"\nowner = ["' + "x" * 300 + '", 5]'
        )
    )
    with pytest.raises(ConfigError) as caught:
        parse(path.read_text(), path)
    shown = show_problems(caught.value.problems).plain
    assert max(map(len, shown.splitlines())) < 420
    for line, mark in zip(shown.splitlines(), shown.splitlines()[1:], strict=False):
        if "^" in mark and "saef" in line:
            assert mark.index("^") == line.index('"saef"')
