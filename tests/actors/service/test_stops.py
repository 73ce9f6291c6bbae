"""An engine stops working on what nobody waits for any more: at its next step, on every way out."""

from functools import partial

import pytest
import trio

from tests.actors.books import ways_out as out
from tests.actors.books.world import TEXT, World, config, world
from tests.actors.fakes import says

UNSURE = says(TEXT, {3: 0.1})
HURRY = config().replace(
    'use = { ladder = "small-first" }',
    'use = { ladder = "small-first" }\ndeadlines = { ttft = "1s", total = "2s" }',
)
LONG = {"ignore_eos": True, "max_tokens": 300}


async def escalates(world: World, model: str, **options: object) -> None:
    """The large model is at it; the small one has nothing to do."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(world.ask, model, **LONG, **options))
        await trio.sleep(1.5)
        engines = world.service.service.statistics().engines
        assert (engines["small"].running, engines["large"].running) == (0, options.get("n", 1))
        assert engines["small"].free_blocks == engines["small"].total_blocks
        nursery.cancel_scope.cancel()


WAYS = {
    "left": partial(out.left_after, seconds=0.45, **LONG),
    "left whole": partial(out.left_after, seconds=0.45, streamed=False, **LONG),
    "left two choices": partial(out.left_after, seconds=0.45, n=2, **LONG),
    "left in prefill": partial(out.left_in_prefill, **LONG),
    "left verified": partial(out.left_after, seconds=0.95, model="checked", **LONG),
    "cut": partial(out.cut, after_s=0.45, **LONG),
    "slow reader": out.slow_reader,
    "too late": partial(World.told, **LONG),
    "escalated": partial(escalates, model="whole"),
    "escalated whole": partial(escalates, model="whole", streamed=False),
    "escalated two choices": partial(escalates, model="whole", n=2),
    "escalated within the window": partial(escalates, model="both"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_works_for_nobody(autojump_clock, monkeypatch, way):
    monkeypatch.setattr("actors.protocol.delivery.MOST_TOKENS", 40)
    settings = HURRY if way == "too late" else config()
    async with world({"small": UNSURE} if "escalated" in way else {}, settings=settings) as here:
        await WAYS[way](here)
        await trio.sleep(0.35)
        for name, engine in here.service.service.statistics().engines.items():
            assert (name, engine.running, engine.waiting) == (name, 0, 0)
            assert engine.free_blocks == engine.total_blocks
