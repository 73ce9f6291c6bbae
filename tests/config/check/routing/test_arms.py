"""What an arm of an experiment may override: its settings are checked as the base is, and nothing is ignored."""

from pathlib import Path

import msgspec
import pytest

from config.load import parse
from config.problems.errors import ConfigError
from tests.policies.cascade.test_calibration import CALIBRATION

BASE = """\
schema = 1
[engines.small]
model = "s"
[engines.large]
model = "l"
[prices]
large = { input = 1.0, output = 1.0 }
[models.chat]
[signals.busy]
load = { of = "large", kv_usage = { at_least = 0.9 } }
[[routes]]
name = "all"
use = { cascade = "c" }
[cascades.c]
stages = ["small", "large"]
defer = { threshold = 1.5 }
skip_to_large = { complexity = { at_least = 0.5 } }
when_busy = { signal = "busy", stay_on = "small", release_at = 0.5 }
on_failure = "safe"
[cascades.j]
stages = ["small", "large"]
judge = { model = "chat", predicate = "Is it right?" }
on_failure = "safe"
[cascades."v1.5"]
stages = ["small", "large"]
defer = { threshold = 1.5 }
on_failure = "safe"
[[ladders.safe]]
to = "large"
[[experiments]]
name = "e"
route = ["all"]
arms = { control = 50, b = 50 }
"""


def errors_of(override: str, base: str = BASE, folder: Path = Path("/etc")) -> list[str]:
    try:
        parse(f"{base}override.b = {{ {override} }}\n", folder / "x.toml")
    except ConfigError as error:
        return [f"{problem.message} | {problem.expected}" for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ('"cascades.c.skip_to_large" = { signal = ["nope"] }', "there is no signal 'nope'"),
        ('"cascades.c.skip_to_large" = { tenant = ["nope"] }', "there is no tenant 'nope'"),
        ('"cascades.c.skip_to_large" = { model = ["nope"] }', "there is no model 'nope'"),
        ('"cascades.c.skip_to_large" = { any = [{ tier = ["nope"] }] }', "there is no tier 'nope'"),
        (
            '"cascades.c.skip_to_large" = { time = { from = "08:00", to = "09:00", zone = "Nowhere/X" } }',
            "Nowhere/X",
        ),
        ('"cascades.c.skip_to_large" = { load = { of = "nope", kv_usage = { at_least = 0.5 } } }', "'nope'"),
        ('"cascades.c.skip_to_large" = { prompt_tokens = { at_least = 10, below = 5 } }', "nothing is at least 10"),
        ('"cascades.j.judge.model" = "chatt"', "there is no model 'chatt'"),
        ('"cascades.c.judge" = { model = "chat" }', "it must have a predicate or labels"),
        ('"cascades.c.judge" = { model = "nope", labels = ["x"] }', "there is no model 'nope'"),
    ],
)
def test_an_arms_settings_are_checked_as_those_of_the_base(override: str, fragment: str) -> None:
    found = errors_of(override)
    assert len(found) == 1, found
    assert fragment in found[0]


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ('"cascades.c.when_busy.dwell" = "1m"', "'when_busy' of the cascade 'c' is the same in all arms"),
        (
            '"cascades.c" = { stages = ["small", "large"], defer.threshold = 1, on_failure = "safe" }',
            "'when_busy' of the cascade 'c' is the same in all arms",
        ),
        ('"ladders.safe.0.breaker.failure_rate" = 0.1', "the breaker of 'large' is the same in all arms"),
        ('"ladders.safe" = [{ to = "large", breaker.probes = 9 }]', "the breaker of 'large' is the same in all arms"),
        ('"cascades.c.defer.calibration" = "x.json"', "an arm cannot have its own calibration of 'c'"),
        ('"cascades.c.defer" = { calibration = "x.json" }', "an arm cannot have its own calibration of 'c'"),
        ('"cascades.c.target.budget_per_day" = 5.0', "the budget of the cascade 'c' counts the money of all arms"),
        (
            '"cascades.c.target" = { large_share = 0.1, hold = true }',
            "the share of the cascade 'c' is held over all arms alike",
        ),
    ],
)
def test_what_all_arms_share_cannot_be_overridden(override: str, fragment: str) -> None:
    found = errors_of(override)
    assert any(fragment in each and each.partition(" | ")[2] for each in found), found


@pytest.mark.parametrize(
    "override",
    [
        '"cascades.c.defer.threshold" = 2',
        '"ladders.safe" = [{ to = "small" }, { to = "large" }]',
        '"routes.all.use" = { cascade = "j" }',
        """'cascades."v1.5".emit.window' = 4""",
    ],
)
def test_what_is_an_arms_own_can(override: str) -> None:
    assert errors_of(override) == []


def test_a_target_of_an_arm_may_differ_from_one_that_is_held(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes(msgspec.json.encode(CALIBRATION))
    base = BASE.replace(
        "defer = { threshold = 1.5 }\nskip",
        'defer = { calibration = "c.json", statistic = "min_margin" }\n'
        "target = { large_share = 0.2, hold = true }\nskip",
    )
    assert errors_of('"cascades.c.target.large_share" = 0.1', base, tmp_path) == []
    assert errors_of('"cascades.c.target.hold" = false', base, tmp_path) == []
    assert errors_of('"cascades.c.defer.calibration" = "other.json"', base, tmp_path)
    assert errors_of('"cascades.c.target" = { budget_per_day = 1.0 }', base, tmp_path)


def test_a_name_with_a_dot_that_is_not_quoted_is_shown_in_quotes() -> None:
    (found,) = errors_of('"cascades.v1.5.emit.window" = 4')
    assert "there is no 'v1' there" in found
    assert '"v1.5"' in found
