"""Warnings about settings without effect, settings that refuse everything, and requests that no route takes."""

import datetime as dt
import re
from pathlib import Path

import msgspec
import pytest

from config.load import load, parse
from config.model.expectations import GivenRequest
from config.profiles import embedded_profile
from policies.authoring.decision import Decider, DecisionRefusal
from policies.authoring.situation import situation_of
from tests.config.test_documentation import CALIBRATION
from tests.paths import ROOT

VALID = (ROOT / "tests/config/faulty" / "valid.toml").read_text()
GIVEN = re.compile(r"such as (\{.*?\})(?: on (\w+) at ([0-9:]+) in (\S+?))?(?:;|$)")

TABLE = [
    ("tokens = 400_000", "tokens = 10", "every request is refused"),
    ("requests = 200, tokens", 'requests = 200, bytes = "10B", tokens', "10 bytes in the queue"),
    ("per_minute = 200_000", "per_minute = 20", "less than one request needs"),
    ("per_minute = 200_000, per_day = 20_000_000", "per_day = 5", "less than one request needs"),
    ('x-app = ["ide"]', 'x-app = ["search-*"]', "'search-*' looks like a pattern"),
    ('x-app = ["ide"]', 'x-app = ["^ide$"]', "looks like a pattern"),
    ('x-app = ["ide"]', 'x-app = ["ide "]', "spaces around a value"),
    ('tag = ["batch"]', 'tag = ["batch*"]', "looks like a pattern"),
    ('metrics = ["error_rate", "ttft_miss"]', 'metrics = ["fallback_rate", "escalation_rate"]', None),
    ('route = ["support"]\nunit = "conversation"', 'route = ["night"]\nunit = "conversation"', "which no route of the"),
    (
        '"cascades.thrifty.defer.threshold" = 0.5',
        '"cascades.second.defer.threshold" = 0.5',
        "the cascade 'second', which no",
    ),
    ('"cascades.thrifty.defer.threshold" = 0.5', '"ladders.cheap.0.retries" = 1', "the ladder 'cheap', which no"),
    ("share = 0.2\nat_least = 3", "share = 0\nat_least = 0", "nothing is ever retried"),
    ('over = "30s", at_least = 10', "slow_rate = 0.5", "has no effect without slow_after: no answer counts as slow"),
    ('over = "30s", at_least = 10', 'over = "1s", at_least = 5000', "it can open only after 5000 requests within 1 s"),
    ("threads = 1\n", "threads = 1\nmax_model_len = 512\n", None),
    ("output_tokens = 1024", "output_tokens = 3", "nothing is shown early"),
    ("block_size = 16 }", 'block_size = 16, swap = "1GiB" }', "no effect on a CPU"),
]


def warnings(text: str) -> list[str]:
    return [str(warning) for warning in parse(text, Path("/x.toml")).warnings]


@pytest.mark.parametrize(("old", "new", "fragment"), TABLE)
def test_each_is_reported_once(old: str, new: str, fragment: str | None) -> None:
    assert VALID.count(old) == 1
    found = warnings(VALID.replace(old, new))
    if fragment is None:
        assert found == []
    else:
        assert len(found) == 1, found
        assert fragment in found[0]


LADDERS = """\
schema = 1
[upstreams.a]
urls = ["http://a/v1"]
context = 4096
[models.chat]
[models.code]
[tiers.default]
[tiers.gold]
[tenants.acme]
tier = "gold"
[tenants.shop]
[[keys]]
id = "k"
tenant = "acme"
hash = "0000000000000000000000000000000000000000000000000000000000000001"
[ladders]
l = [{ to = "a" }]
"""
REST = '[[routes]]\nname = "rest"\nuse.ladder = "l"\n'


TWO_ARMS = """\
[[experiments]]
name = "x"
route = ["rest"]
arms = { control = 50, a = 50 }
override.a = { "routes.rest.caps.output_tokens" = 5 }
"""
THREE_ARMS = """\
[[experiments]]
name = "x"
route = ["rest"]
unit = "tenant"
arms = { control = 30, a = 30, b = 40 }
override = { a = { "routes.rest.caps.output_tokens" = 5 }, b = { "routes.rest.caps.output_tokens" = 6 } }
"""


@pytest.mark.parametrize(
    ("more", "fragment"),
    [
        ("caps.output_tokens = 5000\n", "has no effect: no rung of the route holds more than 4096"),
        ("caps.busy_at = 0.9\n", "has no effect without busy_output_tokens"),
        ("caps = { output_tokens = 9, busy_output_tokens = 9 }\n", "has no effect beside output_tokens = 9"),
        ("caps = { output_tokens = 9, reasoning_tokens = 9 }\n", "has no effect beside output_tokens = 9"),
        (
            'when.has = ["image", "file"]\n' + REST.replace("rest", "all"),
            "no rung of the route takes image, file: every request is refused",
        ),
        ("when.budget_used = { at_least = 0.5 }\n" + REST.replace("rest", "all"), "no tenant has a budget"),
        (
            THREE_ARMS,
            "2 tenants cannot be split into 3 arms",
        ),
        *[
            (
                f'{TWO_ARMS}guard.metrics = ["{metric}"]\n',
                f"the guard never has evidence of '{metric}'",
            )
            for metric in ("escalation_rate", "fallback_rate")
        ],
    ],
)
def test_each_in_a_small_policy_is_reported(more: str, fragment: str) -> None:
    found = warnings(LADDERS + REST + more)
    assert len(found) == 1, found
    assert fragment in found[0]


UNCOVERED = [
    ('when.model = ["chat", "code"]\nwhen.tag = ["x"]',),
    ('when.tenant = ["acme"]', 'when = { tenant = ["shop"], model = ["code", "chat"], has = ["stream"] }'),
    ("when.prompt_tokens = { below = 1000 }",),
    ("when.prompt_tokens = { at_least = 1000 }",),
    ("when.prompt_tokens = { below = 1000 }", "when.prompt_tokens = { at_least = 2000 }"),
    ('when.language = ["en", "und"]', 'when.language = ["de"]'),
    ('when.header = { x-app = ["a"] }', 'when = { not = { header = { x-app = ["a", "b"] } } }'),
    ('when.tier = ["gold"]', 'when = { tier = ["default"], complexity = { below = 0.5 } }'),
    ('when.path = ["/v1/chat/completions"]',),
    ('when = { time = { from = "00:00", to = "23:00" } }', 'when = { tag = ["late"] }'),
    ("when = { any = [{ turn = { at_least = 2 } }, { max_tokens = { at_least = 5 } }] }",),
]


@pytest.mark.parametrize("whens", UNCOVERED)
def test_requests_without_a_route_are_reported_with_an_example(whens: tuple[str, ...]) -> None:
    routes = "".join(f'[[routes]]\nname = "r{at}"\nuse.ladder = "l"\n{when}\n' for at, when in enumerate(whens))
    loaded = parse(LADDERS + routes, Path("/x.toml"))
    (message,) = [warning.message for warning in loaded.warnings if "no route takes some requests" in warning.message]
    example = GIVEN.search(message)
    assert example is not None, message
    document = msgspec.toml.decode(f"given = {example[1]}")["given"]
    if example[2]:
        day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun").index(example[2])
        document["time"] = f"2026-11-{23 + day}T{example[3]}:00+00:00"
    given = msgspec.convert(document, GivenRequest)
    decided = Decider(loaded.settings, {}).decide(situation_of(given, loaded.settings))
    assert isinstance(decided, DecisionRefusal)
    assert decided.code == "no_route"


def test_no_warning_if_the_routes_cover_all_requests() -> None:
    whens = ("when.prompt_tokens = { below = 1000 }", "when.prompt_tokens = { at_least = 1000 }")
    routes = "".join(f'[[routes]]\nname = "r{at}"\nuse.ladder = "l"\n{when}\n' for at, when in enumerate(whens))
    assert warnings(LADDERS + routes) == []
    assert warnings(LADDERS + REST) == []


def test_a_calibration_from_few_prompts(tmp_path: Path) -> None:
    few = msgspec.structs.replace(CALIBRATION, data=msgspec.structs.replace(CALIBRATION.data, prompts=20))
    (tmp_path / "c.json").write_bytes(msgspec.json.encode(few))
    text = VALID.replace(
        "defer = { threshold = 1.5 }", 'defer = { calibration = "c.json" }\ntarget = { large_share = 0.3 }'
    )
    (tmp_path / "p.toml").write_text(text)
    (warning,) = load(tmp_path / "p.toml", today=dt.date(2026, 11, 21)).warnings
    assert "it was made from 20 prompts, too few for reliable thresholds" in warning.message


def test_the_embedded_profile_has_no_warnings() -> None:
    assert load(embedded_profile(), today=dt.date(2026, 11, 28)).warnings == ()
    assert warnings(VALID) == []
