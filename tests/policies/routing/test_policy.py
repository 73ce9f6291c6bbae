"""Damaged policies are either refused with problems, or decide without an exception."""

import json
import tomllib
from pathlib import Path
from typing import Any

import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.load import parse_settings
from config.model.settings import Settings
from config.problems.errors import ConfigError
from policies.errors import NoRoute
from policies.model.features import Features
from policies.model.load import EngineLoad, Load
from policies.routing.policy import Policy, make_plan

GOOD = """\
schema = 1
[engines.small]
model = "m/small"
[engines.large]
model = "m/large"
[upstreams.cloud]
urls = ["https://a.example/v1"]
tokenizer = "large"
supports = ["continue"]
[prices]
small = { input = 1, output = 2 }
large = { input = 3, output = 4 }
[models.chat]
[models.agent]
[tiers.default]
slo = { ttft = "2s" }
[tiers.batch]
queue = { wait = "10m" }
[tenants.anonymous]
budget = { amount = 5.0, when_spent = "downgrade", downgrade_to = "batch" }
tokens = { per_minute = 100, per_day = 1000 }
[signals.long]
prompt_tokens = { at_least = 4000 }
[signals.hard]
any = [{ signal = ["long"] }, { complexity = { at_least = 0.7 } }, { not = { has = ["tools"] } }]
[signals.busy]
load = { of = "large", kv_usage = { at_least = 0.8 } }
[signals.night]
time = { from = "22:00", to = "06:00", zone = "Europe/Berlin", days = ["mon", "tue"] }
[signals.misc]
header = { x-app = ["a"] }
language = ["de"]
path = ["/v1/completions"]
turn = { below = 3 }
code = { below = 0.5 }
budget_used = { at_least = 0.5 }
[[routes]]
name = "night"
when = { signal = ["night", "misc"], tag = ["x"] }
use = { ladder = "safe" }
deadlines = { queue = "1s", ttft = "4s" }
[[routes]]
name = "agent"
when = { model = ["agent"] }
use = { cascade = "exact" }
[[routes]]
name = "rest"
use = { cascade = "thrifty" }
midstream = "continue"
[cascades.thrifty]
stages = ["small", "large"]
defer = { threshold = 1.0 }
emit = { mode = "window", window = 4 }
skip_to_large = { signal = ["hard"] }
when_busy = { signal = "busy", stay_on = "small", release_at = 0.5 }
on_failure = "safe"
[cascades.exact]
stages = ["small", "large"]
emit = { mode = "verified" }
on_failure = "safe"
[[ladders.safe]]
to = "large"
ttft = "1s"
retries = 1
breaker = { probes = 2 }
[[ladders.safe]]
to = "cloud"
[[ladders.safe]]
ladder = "last"
[[ladders.last]]
to = "small"
mark = "degraded"
[[ladders.last]]
answer = "Please try again."
[[experiments]]
name = "window"
route = ["rest"]
unit = "request"
arms = { control = 50, wide = 30, ladder = 20 }
override.wide = { "cascades.thrifty.emit.window" = 8, "routes.rest.deadlines.ttft" = "3s" }
override.ladder = { "ladders.safe.0.retries" = 0 }
guard = { metrics = ["error_rate"], alpha = 0.01 }
[[shadows]]
name = "copy"
route = ["rest"]
to = "cloud"
share = 0.5
[[tests]]
name = "one"
given = { model = "agent" }
expect = { route = "agent" }
"""
DOCUMENT: dict[str, Any] = tomllib.loads(GOOD)
WORDS = [
    "small",
    "large",
    "cloud",
    "safe",
    "last",
    "thrifty",
    "exact",
    "rest",
    "agent",
    "long",
    "hard",
    "busy",
    "control",
]
VALUES = st.one_of(
    st.sampled_from([-1, 0, 0.5, 1, 100, True, "", "1s", "24:00", "Mars/Base", "window", "verified", "gate"]),
    st.sampled_from(WORDS),
    st.sampled_from(
        [[], {}, [{}], {"at_least": 1}, {"signal": ["hard"]}, {"not": {}}, {"threshold": 1.0}, {"mode": "gate"}]
    ),
    st.sampled_from(WORDS).map(lambda word: [word]),
)
REQUESTS = [
    Features(model=model, tenant="anonymous", tier=tier, prompt_tokens=tokens, max_tokens=9, request=unit, tags=tags)
    for model, tier, tokens, unit, tags in [
        ("chat", "default", 10, "r1", frozenset[str]()),
        ("chat", "batch", 9000, "r2", frozenset("x")),
        ("agent", "default", 10, "r3", frozenset("x")),
    ]
]
LOADS = [
    Load(),
    Load(
        engines={"large": EngineLoad(name="large", kv_usage=0.9), "small": EngineLoad(name="small", healthy=False)},
        busy=frozenset({("thrifty", "default")}),
    ),
]


def decide(read: Settings) -> None:
    for tokenizers in ({}, {"small": "t", "large": "t", "cloud": "t"}):
        policy = Policy.compile(read, tokenizers)
        for features in REQUESTS:
            for load in LOADS:
                try:
                    assert make_plan(policy, features, load, 0.0).backends is not None
                except NoRoute:
                    continue


def check(text: str) -> None:
    try:
        read = parse_settings(text, Path("/etc/x.toml"))
    except ConfigError as error:
        refused = error
    else:
        decide(read)
        return
    assert refused.problems
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in refused.problems)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, member in members for place in places(member, (*path, key))]


PLACES = places(DOCUMENT)


def at(document: Any, path: tuple[Any, ...]) -> Any:
    """None: an earlier change has removed it."""
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def test_the_undamaged_one_decides() -> None:
    decide(parse_settings(GOOD, Path("/etc/x.toml")))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_one_or_two_changes_of_a_good_policy(data: st.DataObject) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(PLACES))
        around, key = at(document, place[:-1]), place[-1]
        if not isinstance(around, dict | list) or at(document, place) is None:
            continue
        match data.draw(st.sampled_from(["drop", "change", "copy", "double"])):
            case "drop":
                del around[key]
            case "change":
                around[key] = data.draw(VALUES)
            case "copy":
                # A value of the same kind from elsewhere in the file, which often makes another valid policy.
                other = data.draw(
                    st.sampled_from([each for each in PLACES if each[-1] == key or len(each) == len(place)])
                )
                found = at(document, other)
                if found is not None:
                    around[key] = json.loads(json.dumps(found))
            case "double":
                if isinstance(around, list):
                    around.append(json.loads(json.dumps(around[key])))
                else:
                    around[f"{key}2"] = json.loads(json.dumps(around[key]))
    check(tomlkit.dumps(document))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(start=st.integers(0, len(GOOD)), length=st.integers(0, 40), put=st.text("\"'[]{}=.,#\n abc019-", max_size=6))
def test_damaged_text(start: int, length: int, put: str) -> None:
    check(GOOD[:start] + put + GOOD[start + length :])
