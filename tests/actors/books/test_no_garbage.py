"""An answer that is over is freed at once, on every way out: no reference cycle is left to the garbage collector.

With cycles left behind, a gateway that serves a thousand answers a second stops for collections, and holds prompts in
memory for longer than their requests. Where an actor or an engine fails, its own traceback is such a cycle: those few
ways are left out.
"""

import gc

import pytest
from trio.testing import wait_all_tasks_blocked

from tests.actors.books.cascades import CASCADES
from tests.actors.books.finished import FINISHED
from tests.actors.books.left import LEFT
from tests.actors.books.refused import REFUSED
from tests.actors.books.world import world

OURS = ("actors.", "gateway.", "policies.", "engine.")
WITH_A_FAILURE = {"engine down", "escalated to an engine that is down", "admission was down", "writer restarted later"}
WAYS = [way for way in [*REFUSED, *LEFT, *FINISHED, *CASCADES] if way.name not in WITH_A_FAILURE]


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_nothing_is_left_in_a_cycle(autojump_clock, monkeypatch, way):
    monkeypatch.setattr("actors.protocol.delivery.MOST_TOKENS", 40)
    async with world(**way.service) as here:
        await wait_all_tasks_blocked()
        gc.disable()
        gc.freeze()
        try:
            await way.go(here)
            await here.service.assert_clean()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = sorted(
                {
                    f"{type(each).__module__}.{type(each).__qualname__}"
                    for each in gc.garbage
                    if type(each).__module__.startswith(OURS)
                }
            )
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.unfreeze()
            gc.enable()
    assert left == []
