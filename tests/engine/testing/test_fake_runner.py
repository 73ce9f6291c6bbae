import numpy as np
import pytest

from engine.errors import EngineError
from engine.scheduling.plan import StepPlan
from engine.scheduling.scheduler import Scheduler
from engine.scheduling.sequence import Sequence
from engine.testing.fake_runner import FakeRunner
from tests.engine.conformance import RunnerConformance
from tests.engine.driving import engine_settings, make_engine, run, submit


class TestFakeRunner(RunnerConformance):
    def make_runner(self, *, total_blocks: int) -> FakeRunner:
        return FakeRunner(vocab_size=64, block_size=16, total_blocks=total_blocks, max_model_len=160)


def test_a_script_has_the_first_word():
    runner = FakeRunner(script=lambda sample: (7, 0.25) if len(sample.output_token_ids) < 2 else None)
    answer = run(make_engine(runner), submit(0, [1], max_tokens=3))[0]
    assert answer.tokens[:2] == [7, 7]
    assert answer.margins[:2] == [0.25, 0.25]


def test_on_step_sees_every_step_before_it_happens():
    seen = []
    runner = FakeRunner(on_step=lambda step, batch: seen.append((step, len(batch.token_ids))))
    run(make_engine(runner), submit(0, [1, 2, 3], max_tokens=3))
    assert seen == [(0, 3), (1, 1), (2, 1)]


def a_plan() -> StepPlan:
    scheduler = Scheduler(engine_settings(), total_blocks=8, block_size=4, max_model_len=16)
    scheduler.add(Sequence(submit(0, [1, 2, 3, 4, 5]), arrival=0, limit=9, seed=0, banned=()))
    plan = scheduler.schedule()
    assert plan is not None
    return plan


@pytest.mark.parametrize("field", ["slots", "positions", "context_lens", "query_starts", "block_tables"])
def test_a_batch_that_contradicts_itself_is_an_error(field):
    batch = a_plan().batch
    getattr(batch, field).flat[-1] += 1
    with pytest.raises(EngineError, match="batch"):
        FakeRunner(block_size=4, total_blocks=8, max_model_len=16).execute(batch)


def test_reading_kv_that_was_never_written_is_an_error():
    batch = a_plan().batch
    batch.token_ids, batch.positions, batch.slots = batch.token_ids[4:], batch.positions[4:], batch.slots[4:]
    batch.query_starts = np.array([0, 1], np.int32)
    batch.samples[0].row = 0
    with pytest.raises(EngineError, match="never written"):
        FakeRunner(block_size=4, total_blocks=8, max_model_len=16).execute(batch)
