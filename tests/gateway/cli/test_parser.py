"""What a person sees who mistypes a command."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.main import _parser, main

MISTYPED = [
    (["servee"], "did you mean serve?"),
    (["zzz"], "choose from: serve, init, check"),
    (["policy", "chek", "x.toml"], "did you mean check?"),
    (["serve", "--prot", "9000"], "did you mean --port?"),
    (["serve", "--prot=9000"], "did you mean --port?"),
    (["serve", "--log-level", "inof"], "did you mean info?"),
    (["init", "one-model", "--model", "m", "a.toml", "b.toml"], "penstock init has no option or argument 'b.toml'"),
    (["init", "one-model", "a.toml", "--model", "m", "b.toml"], "penstock init has no option or argument 'b.toml'"),
    (["serve", "extra"], "penstock serve has no option or argument 'extra'"),
    (["keys", "new", "--tenat", "acme"], "did you mean --tenant?"),
    (["keys", "new"], "one of the arguments --tenant --admin"),
    (["policy", "explain", "--model", "penstok"], "did you mean 'penstock'?"),
    (["policy", "explain", "--tenant", "nobody"], "choose from: anonymous"),
]


@pytest.mark.parametrize(
    ("words", "hint"), MISTYPED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_was_meant_is_reported(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(words)
    except SystemExit as end:
        status = end.code
    assert status == 2
    told = capsys.readouterr().err
    assert hint in told
    assert len(told.splitlines()) <= 2


@pytest.mark.parametrize(
    "words",
    [
        ["one-model", "a.toml", "--model", "m"],
        ["--model", "m", "one-model", "a.toml"],
        ["one-model", "--model", "m", "a.toml"],
        ["--model", "m", "one-model", "--tenant", "t", "a.toml"],
    ],
    ids=" ".join,
)
def test_a_file_may_be_before_and_behind_the_options(words: list[str]) -> None:
    parsed = _parser().parse_args(["init", *words])
    assert (parsed.kind, parsed.model, parsed.file) == ("one-model", "m", Path("a.toml"))


@pytest.mark.parametrize("words", [[], ["policy"], ["keys"], ["zoo"], ["engine"]], ids=" ".join)
def test_a_command_of_commands_lists_them(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "commands:" in capsys.readouterr().err


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _parsers(inner)


def test_every_option_says_what_it_is_for() -> None:
    silent = [
        (parser.prog, action.option_strings or action.dest)
        for parser in _parsers(_parser())
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert silent == []


def test_options_may_be_abbreviated_and_values_may_look_like_anything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "explain", "--mod", "penstock", "--text", "- - what?"]) == 0
    assert capsys.readouterr().out
