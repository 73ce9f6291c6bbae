"""The configuration that most tests of the service use; no actor and no engine is imported for it."""

from pathlib import Path

from config.load import parse_settings
from config.model.settings import Settings

CONFIG = """
schema = 1
[ledger]
path = ":memory:"
[engines.small]
model = "small"
max_running = 4
stall = "30s"
[engines.large]
model = "large"
max_running = 4
stall = "30s"
[models.small]
[models.large]
[models.both]
[models.whole]
[tiers.default]
queue = { wait = "20s", requests = 8, tokens = 400_000 }
[[routes]]
name = "small"
when = { model = ["small"] }
use = { ladder = "small-first" }
[[routes]]
name = "large"
when = { model = ["large"] }
use = { ladder = "large-only" }
[[routes]]
name = "both"
when = { model = ["both"] }
use = { cascade = "window" }
[[routes]]
name = "gate"
use = { cascade = "gate" }
[cascades.window]
stages = ["small", "large"]
defer = { statistic = "min_margin", threshold = 1.0 }
emit = { mode = "window", window = 3 }
on_failure = "large-only"
[cascades.gate]
stages = ["small", "large"]
defer = { statistic = "min_margin", threshold = 1.0 }
emit = { mode = "gate" }
on_failure = "large-only"
[[ladders.small-first]]
to = "small"
retries = 1
[[ladders.small-first]]
to = "large"
mark = "fallback"
[[ladders.large-only]]
to = "large"
"""
STOPS = CONFIG.replace("[[routes]]", '[[routes]]\nmidstream = "error"')
"""No answer goes on."""


def settings_of(text: str = CONFIG) -> Settings:
    return parse_settings(text, Path("/nowhere/service.toml"))
