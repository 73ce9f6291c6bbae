"""How soon an engine is rid of an answer whose client has left, beside answers that go on."""

import random
from pathlib import Path

import pytest
import trio

from engine.scheduling.batch import Batch
from tests.fault_table.scene import Scene, question, scene, simulated
from tests.fault_table.seen import TRANSPORTS, Left, Seen, Transport, ask

STEP_S = 0.1
LEAVES = 20
LONG = {"model": "alone", "ignore_eos": True, "max_tokens": 1500}


class Steps:
    """What is in the batches of an engine, and since when."""

    def __init__(self, here: Scene) -> None:
        self.began_s: list[float] = []
        self.sizes: list[int] = []
        here.service.on_step["small"] = self._note

    def _note(self, _: int, batch: Batch) -> None:
        self.began_s.append(trio.current_time())
        self.sizes.append(len(batch.context_lens))

    def first_without(self, since: float, beside: int) -> float:
        """How long after `since` a step began with only those that go on; infinite if none has."""
        found = [at for at, size in zip(self.began_s, self.sizes, strict=True) if at >= since and size == beside]
        return found[0] - since if found else float("inf")


async def leave(here: Scene, transport: Transport, chance: random.Random) -> None:
    """Ask, and go at some time; over a socket after some tokens, as only so its connection is closed at once."""
    seen, pieces = Seen(transport), chance.randrange(2, 12) if transport == "WebSocket" else 0

    def on_piece(seen: Seen) -> None:
        if seen.pieces == pieces:
            raise Left

    seen.on_piece = on_piece
    with trio.move_on_after(float("inf") if pieces else 3 * STEP_S + chance.random()):
        await ask(here.running, transport, question(LONG), seen=seen)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_that_leaves_is_in_no_step_after_the_one_that_runs(transport: Transport, tmp_path: Path) -> None:
    beside, took_s, chance = 2, [], random.Random(7)

    async def run() -> None:
        async with scene(tmp_path, step_s=STEP_S) as here, trio.open_nursery() as nursery:
            steps = Steps(here)
            for seed in range(beside):
                nursery.start_soon(lambda seed=seed: here.ask("SSE", {**LONG, "seed": seed}))
            await trio.sleep(1)
            for _ in range(LEAVES):
                await leave(here, transport, chance)
                left_s = trio.current_time()
                assert steps.sizes[-1] == beside + 1
                await trio.sleep(3 * STEP_S)
                took_s.append(steps.first_without(left_s, beside))
            nursery.cancel_scope.cancel()

    simulated(run)
    assert len(took_s) == LEAVES
    # At most the step that was running: what it computes is the last that is computed for the answer.
    assert max(took_s) <= STEP_S + 1e-6
