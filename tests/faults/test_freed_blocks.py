"""The whole way, with every actor and a real engine loop: a client that leaves frees its blocks within one step."""

import time
from pathlib import Path

import pytest
import trio

from actors.api.request import InferenceRequest
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
    folder = tmp_path_factory.mktemp("service")
    (folder / "model").mkdir()
    save_tokenizer(train_tokenizer(), folder / "model", 1024)
    (folder / "model" / "config.json").write_text('{"eos_token_id": 2}')
    return parse_settings(CONFIG, folder / "config.toml")


class Watched:
    """A service that notes at which step of the engine each answer was closed."""

    def __init__(self, settings: Settings) -> None:
        self.runner = FakeRunner(vocab_size=800, total_blocks=512, on_step=lambda *_: time.sleep(STEP_S))
        self._settings = settings
        self.service = Service(settings, {"only": [lambda _: self._engine(settings.engines["only"].model)]})
        self.closed_at: list[int] = []
        self.readiness = self.service.readiness
        self.models = self.service.models
        self.statistics = self.service.statistics
        self.kept = self.service.kept
        self.batches = self.service.batches
        self.request_log = self.service.request_log
        self.wall = self.service.wall
        self.clients = self.service.clients
        self.policy = self.service.policy

    async def open(self, request: InferenceRequest):
        response = await self.service.open(request)
        close = response.close

        def noted() -> None:
            close()
            self.closed_at.append(self.runner.steps)

        return Noted(response, noted)

    async def ready(self) -> None:
        while not self.service.readiness().ready:  # noqa: ASYNC110  (as any health probe asks)
            await trio.sleep(0.01)

    async def until_idle(self) -> None:
        while True:
            stats = self.service.statistics().engines["only"]
            if stats.free_blocks == stats.total_blocks and not stats.running:
                return
            await trio.sleep(0.001)

    def _engine(self, model: Path) -> Engine:
        return Engine(self.runner, Tokenizer.load(model), self._settings.engines["only"], name="only")


class Noted:
    def __init__(self, response, close) -> None:
        self._response = response
        self.decided = response.decided
        self.close = close
        self.emit_through = response.emit_through

    async def next_events(self):
        return await self._response.next_events()


@pytest.mark.parametrize("way", ["stream", "whole", "socket", "cancel"])
async def test_blocks_are_free_within_one_step(settings: Settings, way: str) -> None:
    service = Watched(settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.service.run)
        await service.ready()
        async with gateway(service) as running:
            if way in {"stream", "whole"}:
                client = await running.connect()
                await client.post("/v1/chat/completions", {**LONG, "stream": way == "stream"})
                if way == "stream":
                    await client.head()
                else:
                    while service.runner.steps < 5:  # noqa: ASYNC110  (steps happen in another thread)
                        await trio.sleep(STEP_S)
                while service.statistics().engines["only"].running != 3:  # noqa: ASYNC110  (reported by another thread)
                    await trio.sleep(STEP_S)
                await client.aclose()
            else:
                async with connected(running) as socket:
                    await socket.send({"type": "start", "id": "a", **LONG})
                    await socket.until("token")
                    if way == "cancel":
                        await socket.send({"type": "cancel", "id": "a"})
                        await socket.until("error")
            await service.until_idle()
            # The step under way when the answer was closed, and the one at whose start the blocks are freed.
            assert len(service.closed_at) == 1
            assert service.runner.steps - service.closed_at[0] <= 2
            statistics = service.statistics()
            assert (statistics.in_flight, statistics.ledger.open) == (0, 0)
        nursery.cancel_scope.cancel()
