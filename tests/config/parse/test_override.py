"""Overrides of single keys by the arms of experiments."""

from pathlib import Path

import pytest

from config.load import parse_settings
from config.parse.override import apply_override
from config.problems.problems import Problems
from config.problems.source_map import SourceMap

TEXT = """\
schema = 1
[engines.small]
model = "s"
[engines.large]
model = "l"
[models.chat]
[[routes]]
name = "chat"
use = { cascade = "thrifty" }
[cascades.thrifty]
stages = ["small", "large"]
defer = { threshold = 1.5 }
on_failure = "safe"
[[ladders.safe]]
to = "large"
"""
SETTINGS = parse_settings(TEXT, Path("/etc/x.toml"))
PLACE = ("experiments", 0, "override", "b")


def overridden(key: str, value: object) -> tuple[object, list[str]]:
    problems = Problems(Path("x"), SourceMap(""))
    changed = apply_override(SETTINGS, key, value, problems, PLACE)
    return changed, [problem.message for problem in problems]


@pytest.mark.parametrize(
    ("key", "value", "see"),
    [
        ("cascades.thrifty.defer.threshold", 2, lambda s: s.cascades["thrifty"].defer.threshold == 2.0),
        ("cascades.thrifty.target.large_share", 0.2, lambda s: s.cascades["thrifty"].target.large_share == 0.2),
        ("routes.chat.deadlines.ttft", "250ms", lambda s: s.routes[0].deadlines.ttft == 0.25),
        ("routes.chat.use", {"ladder": "safe"}, lambda s: s.routes[0].use.ladder == "safe"),
        ("ladders.safe.0.retries", 3, lambda s: s.ladders["safe"][0].retries == 3),
    ],
)
def test_one_key_has_its_other_value(key: str, value: object, see: object) -> None:
    changed, problems = overridden(key, value)
    assert problems == []
    assert see(changed)  # type: ignore[operator]
    assert changed != SETTINGS


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("engines.small.threads", 2, "'engines.small.threads' cannot be overridden"),
        ("cascades.thrifti.defer.threshold", 2, "there is no 'thrifti' there"),
        ("cascades.thrifty.defer.treshold", 2, "there is no 'treshold' there"),
        ("cascades.thrifty.defer.threshold", "low", 'got "low"'),
        ("cascades.thrifty.skip_to_large.complexity.at_least.x", 1, "'x' is a key of something that has no keys"),
        ("cascades.thrifty.when_busy.dwell", "1s", "there is nothing yet in which 'dwell' could be set"),
        ("ladders.safe.7.retries", 2, "there is no '7' there"),
    ],
)
def test_what_cannot_be_applied_is_reported(key: str, value: object, message: str) -> None:
    _, problems = overridden(key, value)
    assert problems == [message]
