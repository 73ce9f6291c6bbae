"""For a value of the wrong type, the message contains a correction that can be pasted and is valid."""

import re
from pathlib import Path

import pytest

from config.load import parse
from config.problems.errors import ConfigError
from tests.paths import ROOT

VALID = (ROOT / "tests/config/faulty" / "valid.toml").read_text()
WRITE = re.compile(r"write (.*)$")

TABLE = [
    ("prompt_tokens = { at_least = 4000 }", "prompt_tokens = 300", "{ at_least = 300 }"),
    ("prompt_tokens = { at_least = 4000 }", 'prompt_tokens = "300"', "{ at_least = 300 }"),
    ("prompt_tokens = { at_least = 4000 }", "prompt_tokens = { at_least = [300] }", "300"),
    ('header = { x-app = ["ide"] }', 'header = ["search-*"]', '{ x-app = ["search-*"] }'),
    ('header = { x-app = ["ide"] }', 'header = { x-app = "ide" }', '["ide"]'),
    ('tag = ["batch"]', 'tag = "batch"', '["batch"]'),
    ('days = ["mon", "tue"]', 'days = "mon"', '["mon"]'),
    ('use = { ladder = "cheap" }', 'use = "cheap"', '{ ladder = "cheap" }'),
    ('use = { cascade = "second" }', 'use = "second"', '{ cascade = "second" }'),
    ('on_failure = "safe"\n\n[[ladders.safe]]', 'on_failure = { ladder = "safe" }\n\n[[ladders.safe]]', '"safe"'),
    ('to = "cloud"\nttft', 'to = ["cloud"]\nttft', '"cloud"'),
    ('ttft = "20s"', "ttft = 20", '"20s"'),
    ('ttft = "20s"', 'ttft = "20"', '"20s"'),
    ('ttft = "20s"', 'ttft = "20 sec"', '"20s"'),
    ('ttft = "20s"', "ttft = 6.5", '"6.5s"'),
    ('itl = "60ms" }\n[tiers.gold]', "itl = 0.06 }\n[tiers.gold]", '"60ms"'),
    ('dwell = "10s"', 'dwell = "1 minute"', '"1m"'),
    ('from = "22:00"', "from = 22", '"22:00"'),
    ('from = "22:00"', 'from = "10pm"', '"22:00"'),
    ('from = "22:00"', "from = 22:00:00", '"22:00"'),
    ('max_body = "4MiB"', 'max_body = "4MB"', '"4MiB"'),
    ('max_body = "4MiB"', "max_body = 4194304", '"4MiB"'),
    ('max_body = "4MiB"', 'max_body = "4 mb"', '"4MiB"'),
    ("admit_below = 0.9", 'admit_below = "90%"', "0.9"),
    ("share = 0.1", 'share = "10%"', "0.1"),
    ("cheap = 10 }", 'cheap = "10%" }', "10"),
    ("watch = true", 'watch = "true"', "true"),
    ("watch = true", 'watch = "off"', "false"),
    ("watch = true", "watch = 1", "true"),
    ("port = 8080", 'port = "8080"', "8080"),
    ("requests = 200,", 'requests = "2k",', "2000"),
    ("concurrent = 8\nbudget", "concurrent = 8.0\nbudget", "8"),
    ('id = "k1"', "id = 1", '"1"'),
    ("tokens = { per_minute = 200_000, per_day = 20_000_000 }", "tokens = 200000", "{ per_minute = 200000 }"),
    ('budget = { amount = 5.0, per = "month", when_spent = "refuse" }', "budget = 5", "{ amount = 5 }"),
    ("caps = { output_tokens = 1024 }", "caps = 1024", "{ output_tokens = 1024 }"),
    ("defer = { threshold = 1.5 }", "defer = 1.5", "{ threshold = 1.5 }"),
    ('emit = { mode = "window", window = 4 }', 'emit = "window"', '{ mode = "window" }'),
    (
        '[engines.large.adapters.law]\npath = "adapters/law"',
        '[engines.large.adapters]\nlaw = "a/law"',
        '{ path = "a/law" }',
    ),
    ('key = { env = "CLOUD_KEY" }', 'key = "CLOUD_KEY_OR_SECRET"', '{ env = "NAME_OF_A_VARIABLE" }'),
]


@pytest.mark.parametrize(("good", "bad", "pasted"), TABLE)
def test_the_suggestion_can_be_pasted(good: str, bad: str, pasted: str) -> None:
    assert VALID.count(good) == 1, good
    with pytest.raises(ConfigError) as caught:
        parse(VALID.replace(good, bad), Path("/x.toml"))
    (problem,) = caught.value.problems
    suggestion = WRITE.search(problem.expected)
    assert suggestion is not None, problem
    assert suggestion[1] == pasted
    line = VALID.replace(good, bad).split("\n")[problem.line - 1]
    literal = re.match(r'"[^"]*"|\[.*?\]|\{.*?\}(?= *\}|$)|[^\s,}]+', line[problem.column - 1 :])
    assert literal is not None
    begin, end = problem.column - 1, problem.column - 1 + literal.end()
    parse(VALID.replace(good, bad).replace(line, f"{line[:begin]}{pasted}{line[end:]}"), Path("/x.toml"))
