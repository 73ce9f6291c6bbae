"""The whole way, with every actor and a real engine loop: a client that leaves frees its blocks within one step."""

import time
from pathlib import Path

import pytest
import trio

from actors.api.messages import InferenceRequest
from actors.service import Service
from config.load import parse_settings
from config.model.settings import Settings
from engine.core.engine import Engine
from engine.testing.fake_runner import FakeRunner
from engine.text.tokenizer import Tokenizer
from engine.zoo.tokenizer import save_tokenizer, train_tokenizer
from tests.gateway.harness import CHAT, connected, gateway

CONFIG = """
schema = 1
[ledger]
path = ":memory:"
[engines.only]
model = "model"
[models.penstock]
[[routes]]
name = "all"
use = { ladder = "only" }
[[ladders.only]]
to = "only"
"""
STEP_S = 0.005
LONG = {**CHAT, "max_tokens": 900, "ignore_eos": True, "n": 3}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("house")
    (folder / "model").mkdir()
    save_tokenizer(train_tokenizer(), folder / "model", 1024)
    (folder / "model" / "config.json").write_text('{"eos_token_id": 2}')
    return parse_settings(CONFIG, folder / "config.toml")


class Watched:
    """A house that notes at which step of the engine each answer was closed."""

    def __init__(self, settings: Settings) -> None:
        self.runner = FakeRunner(vocab_size=800, total_blocks=512, on_step=lambda *_: time.sleep(STEP_S))
        self._settings = settings
        self.house = Service(settings, {"only": [lambda _: self._engine(settings.engines["only"].model)]})
        self.closed_at: list[int] = []
        self.readiness = self.house.readiness
        self.models = self.house.models
        self.statistics = self.house.statistics
        self.check_key = self.house.check_key
        self.check_scraper = self.house.check_scraper
        self.rate_limits = self.house.rate_limits
        self.request_log = self.house.request_log
        self.known_tenant = self.house.known_tenant
        self.tiers_above = self.house.tiers_above
        self.keyless = False
        self.policy = self.house.policy

    async def open(self, request: InferenceRequest):
        exchange = await self.house.open(request)
        close = exchange.close

        def noted() -> None:
            close()
            self.closed_at.append(self.runner.steps)

        return Noted(exchange, noted)

    async def ready(self) -> None:
        while not self.house.readiness().ready:  # noqa: ASYNC110  (as any health probe asks)
            await trio.sleep(0.01)

    async def until_idle(self) -> None:
        while True:
            stats = self.house.statistics().engines["only"]
            if stats.free_blocks == stats.total_blocks and not stats.running:
                return
            await trio.sleep(0.001)

    def _engine(self, model: Path) -> Engine:
        return Engine(self.runner, Tokenizer.load(model), self._settings.engines["only"], name="only")


class Noted:
    def __init__(self, exchange, close) -> None:
        self._exchange = exchange
        self.decided = exchange.decided
        self.close = close

    async def __anext__(self):
        return await self._exchange.__anext__()


@pytest.mark.parametrize("way", ["stream", "whole", "socket", "cancel"])
async def test_blocks_are_free_within_one_step(settings: Settings, way: str) -> None:
    house = Watched(settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(house.house.run)
        await house.ready()
        async with gateway(house) as running:
            if way in {"stream", "whole"}:
                client = await running.connect()
                await client.post("/v1/chat/completions", {**LONG, "stream": way == "stream"})
                if way == "stream":
                    await client.head()
                else:
                    while house.runner.steps < 5:  # noqa: ASYNC110  (steps happen in another thread)
                        await trio.sleep(STEP_S)
                while house.statistics().engines["only"].running != 3:  # noqa: ASYNC110  (reported by another thread)
                    await trio.sleep(STEP_S)
                await client.aclose()
            else:
                async with connected(running) as socket:
                    await socket.send({"type": "start", "id": "a", **LONG})
                    await socket.until("token")
                    if way == "cancel":
                        await socket.send({"type": "cancel", "id": "a"})
                        await socket.until("error")
            await house.until_idle()
            # The step under way when the answer was closed, and the one at whose start the blocks are freed.
            assert len(house.closed_at) == 1
            assert house.runner.steps - house.closed_at[0] <= 2
            statistics = house.statistics()
            assert (statistics.in_flight, statistics.ledger.open) == (0, 0)
        nursery.cancel_scope.cancel()
