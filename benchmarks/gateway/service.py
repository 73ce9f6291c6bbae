"""The service with all its actors and an in-memory ledger, on a fake engine."""

import tempfile
from pathlib import Path

import trio

from actors.service import Service
from benchmarks.gateway.fake_engine import FakeEngine
from config.load import parse_settings
from engine.zoo.tokenizer import save_tokenizer, train_tokenizer

CONFIG = """
schema = 1

[ledger]
path = ":memory:"

[engines.bench]
model = "model"
max_running = 4096
max_step_tokens = 4096

[models.bench]

[tiers.default]
queue = { requests = 4096, tokens = 4_000_000_000, bytes = "1GiB" }

[[routes]]
name = "bench"
use = { ladder = "bench" }
deadlines = { ttft = "60s", stall = "60s", total = "1h" }

[[ladders.bench]]
to = "bench"
"""


async def start_service(nursery: trio.Nursery, step_s: float, silent_tokens: int) -> Service:
    """A running and ready service. Prompts are rendered and encoded with the embedded models' tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        model.mkdir()
        save_tokenizer(train_tokenizer(), model, 1 << 20)
        (model / "config.json").write_text('{"eos_token_id": 2}')
        settings = parse_settings(CONFIG, Path(folder) / "bench.toml")
        service = Service(settings, {"bench": [lambda _: FakeEngine(step_s, silent_tokens)]})
        await nursery.start(service.run)
        with trio.fail_after(60):
            while not service.readiness().ready:  # noqa: ASYNC110  (as any health probe asks)
                await trio.sleep(0.01)
    return service
