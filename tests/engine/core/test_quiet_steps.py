"""Many quiet steps at once leave the same books as single ones, to the last block."""

from random import Random

import pytest

from engine.scheduling.scheduler import Scheduler
from engine.scheduling.sequence import Sequence
from tests.engine.driving import submit
from tests.engine.scheduling.test_scheduler import make_scheduler, step


def books(scheduler: Scheduler) -> tuple[object, ...]:
    """All that the scheduler knows, with the order in which blocks will be given out and evicted."""
    blocks = scheduler._blocks
    return (
        list(blocks._blank),
        list(blocks._idle),
        blocks._names,
        blocks._references,
        blocks._by_name,
        scheduler._table._table.tolist(),
        scheduler.statistics(),
        [(s.sequence_id, s.known, s.computed, s.blocks, s.row, s.epoch) for s in scheduler._running],
        [s.sequence_id for s in scheduler._waiting],
    )


def arrival(rng: Random, number: int) -> Sequence:
    stem = [rng.randrange(2)] * 8
    prompt = [*stem[: rng.randrange(9)], *(rng.randrange(50) for _ in range(rng.randrange(1, 12)))]
    limit = len(prompt) + rng.randrange(1, 30)
    return Sequence(submit(number, prompt, priority=rng.randrange(2)), arrival=number, limit=limit, seed=0, banned=())


def leave(scheduler: Scheduler) -> None:
    for sequence in [each for each in scheduler._running if each.known >= each.limit]:
        scheduler.finish(sequence)


@pytest.mark.parametrize("seed", range(40))
def test_the_same_books(seed):
    rng = Random(seed)
    values = {
        "total_blocks": rng.choice([18, 40, 65]),
        "max_running": rng.randrange(1, 7),
        "prefix_cache": rng.random() < 0.7,
        "prefill_chunk": rng.randrange(1, 12),
    }
    single, leaping = make_scheduler(**values), make_scheduler(**values)
    leaps = 0
    for number in range(60):
        seen = rng.getstate()
        single.add(arrival(rng, number))
        rng.setstate(seen)
        leaping.add(arrival(rng, number))
        for _ in range(rng.randrange(12)):
            room = min((each.limit - each.known for each in leaping._running), default=0)
            steps = leaping.quiet_steps(min(room, rng.randrange(1, 20))) if room else 0
            for _ in range(max(steps, 1)):
                step(single)
            if steps:
                leaps += 1
                for sequence in leaping._running:
                    sequence.output += [9] * steps
                    sequence.known += steps
                leaping.advance(steps)
            else:
                step(leaping)
            leave(single)
            leave(leaping)
            leaping.check_integrity()
            assert books(leaping) == books(single)
    assert leaps


def test_no_step_is_quiet_while_somebody_could_enter_or_prefills():
    scheduler = make_scheduler(max_running=1)
    assert scheduler.quiet_steps(5) == 0
    rng = Random(0)
    first = arrival(rng, 1)
    first.limit = 60
    scheduler.add(first)
    assert scheduler.quiet_steps(5) == 0
    while first.computed < len(first.prompt):
        step(scheduler)
    assert scheduler.quiet_steps(5) == 5
    scheduler.add(arrival(rng, 2))
    assert scheduler.quiet_steps(5) == 5  # there is no row for it


def test_steps_are_quiet_only_as_long_as_blocks_last():
    scheduler = make_scheduler(total_blocks=4)
    sequence = Sequence(submit(1, [1] * 4), arrival=1, limit=60, seed=0, banned=())
    scheduler.add(sequence)
    step(scheduler)
    assert sequence.computed == 4
    assert scheduler.quiet_steps(100) == 8
