"""Best-effort sequences compute where no other needs to, and give way to any of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.scheduling.scheduler import Scheduler
from engine.scheduling.sequence import Sequence
from tests.engine.driving import engine_settings, submit
from tests.engine.scheduling.test_scheduler import step

BLOCK = 4


def scheduler_of(total_blocks: int = 65, **changes) -> Scheduler:
    values = {"max_running": 4, "max_step_tokens": 64, "prefill_chunk": 64, "prefix_cache": False, **changes}
    return Scheduler(engine_settings(**values), total_blocks=total_blocks, block_size=BLOCK, max_model_len=64)


def add(
    scheduler: Scheduler, number: int, tokens: int = 4, *, best_effort: bool, limit: int = 60, prompt=None
) -> Sequence:
    command = submit(number, prompt or [number] * tokens, best_effort=best_effort)
    sequence = Sequence(command, arrival=number, limit=limit, seed=0, banned=())
    scheduler.add(sequence)
    scheduler.check_integrity()
    return sequence


def run(scheduler: Scheduler, *, best_effort: int, steps: int = 8) -> list[Sequence]:
    """So many best-effort sequences that decode."""
    made = [add(scheduler, number, best_effort=True) for number in range(1, best_effort + 1)]
    for _ in range(steps):
        step(scheduler)
    return made


def test_they_pause_while_another_sequence_runs() -> None:
    scheduler = scheduler_of()
    run(scheduler, best_effort=2)
    other = add(scheduler, 9, best_effort=False)
    for _ in range(5):
        assert list(step(scheduler)) == [9]
    scheduler.finish(other)
    assert list(step(scheduler)) == [1, 2]


def test_none_of_them_is_admitted_meanwhile() -> None:
    scheduler = scheduler_of()
    add(scheduler, 1, best_effort=False)
    add(scheduler, 2, best_effort=True)
    assert list(step(scheduler)) == [1]
    assert list(step(scheduler)) == [1]
    assert scheduler.statistics().best_effort.waiting == 1


def test_so_many_as_the_settings_say_decode_beside_others() -> None:
    scheduler = scheduler_of(batch_beside=1)
    run(scheduler, best_effort=3)
    add(scheduler, 9, best_effort=False)
    # The first token comes without any of them.
    assert list(step(scheduler)) == [9]
    assert sorted(step(scheduler)) == [1, 9]


@pytest.mark.parametrize(("device", "beside"), [("cpu", 0), ("cuda:0", 4)])
def test_by_default_they_are_beside_others_on_a_gpu_only(device: str, beside: int) -> None:
    scheduler = scheduler_of(device=device)
    run(scheduler, best_effort=3)
    add(scheduler, 9, best_effort=False)
    step(scheduler)
    assert len(step(scheduler)) == 1 + min(beside, 3)


def test_a_full_batch_gives_a_row_to_any_other_sequence() -> None:
    scheduler = scheduler_of()
    run(scheduler, best_effort=4)
    assert scheduler.statistics().best_effort.running == 4
    add(scheduler, 9, best_effort=False)
    assert list(step(scheduler)) == [9]
    assert (scheduler.statistics().best_effort.running, scheduler.statistics().preemptions_total) == (3, 1)


def test_they_give_their_blocks_to_a_prompt_that_needs_them() -> None:
    scheduler = scheduler_of(total_blocks=17)
    run(scheduler, best_effort=3, steps=14)
    held = scheduler.statistics().best_effort.blocks
    assert held >= 12
    add(scheduler, 9, 40, best_effort=False)
    assert list(step(scheduler)) == [9]
    assert scheduler.statistics().best_effort.blocks < held


def test_they_give_their_blocks_to_an_answer_that_grows() -> None:
    scheduler = scheduler_of(total_blocks=13, batch_beside=3)
    other = add(scheduler, 9, 4, best_effort=False, limit=48)
    step(scheduler)
    scheduler.finish(other)
    run(scheduler, best_effort=2, steps=10)
    other = add(scheduler, 10, 4, best_effort=False, limit=48)
    for _ in range(40):
        assert 10 in step(scheduler)
    assert other.preemptions == 0


def test_one_that_shares_their_beginning_does_not_wait_for_them() -> None:
    scheduler = scheduler_of(prefix_cache=True, max_step_tokens=16, prefill_chunk=4)
    prompt = [7] * 32
    add(scheduler, 1, best_effort=True, prompt=prompt)
    step(scheduler)
    add(scheduler, 9, best_effort=False, prompt=prompt)
    assert list(step(scheduler)) == [9]


def test_alone_their_steps_are_short() -> None:
    scheduler = scheduler_of(max_step_tokens=64)
    add(scheduler, 1, 40, best_effort=True)
    assert step(scheduler) == {1: 4}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_comes_every_sequence_ends_and_others_are_never_preempted_for_them(data) -> None:
    scheduler = scheduler_of(
        total_blocks=33, prefix_cache=data.draw(st.booleans()), batch_beside=data.draw(st.integers(1, 4))
    )
    alive: list[Sequence] = []
    others: list[Sequence] = []
    for number in range(1, data.draw(st.integers(1, 12)) + 1):
        best_effort = data.draw(st.booleans())
        tokens = data.draw(st.integers(1, 20))
        sequence = add(scheduler, number, tokens, best_effort=best_effort, limit=tokens + data.draw(st.integers(1, 20)))
        alive.append(sequence)
        others += [] if best_effort else [sequence]
        for _ in range(data.draw(st.integers(0, 4))):
            step(scheduler)
            alive = finish_whole(scheduler, alive)
    for _ in range(600):
        if not alive:
            break
        assert step(scheduler)
        alive = finish_whole(scheduler, alive)
    assert not alive
    scheduler.check_integrity()


def finish_whole(scheduler: Scheduler, alive: list[Sequence]) -> list[Sequence]:
    for sequence in alive:
        if sequence.known >= sequence.limit:
            scheduler.finish(sequence)
    return [sequence for sequence in alive if not sequence.finished]
