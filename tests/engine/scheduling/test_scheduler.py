import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.scheduling.plan import StepPlan
from engine.scheduling.scheduler import Scheduler
from engine.scheduling.sequence import Sequence
from tests.engine.driving import engine_settings, submit

BLOCK = 4


def make_scheduler(total_blocks: int = 65, **changes) -> Scheduler:
    values = {"max_running": 8, "max_step_tokens": 32, "prefill_chunk": 8, "prefix_cache": False, **changes}
    return Scheduler(engine_settings(**values), total_blocks=total_blocks, block_size=BLOCK, max_model_len=64)


class Arrivals:
    """Makes sequences that arrive one after the other, each with a prompt of its own."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.count = 0

    def __call__(self, prompt_tokens: int, *, limit: int = 64, priority: int = 0, prompt=None) -> Sequence:
        self.count += 1
        prompt = prompt or [self.count] * prompt_tokens
        command = submit(self.count, prompt, priority=priority)
        sequence = Sequence(command, arrival=self.count, limit=limit, seed=0, banned=())
        self.scheduler.add(sequence)
        self.scheduler.check_integrity()
        return sequence


def step(scheduler: Scheduler) -> dict[int, int]:
    """Plan a step and carry it out; each sample yields token 9. Returns the tokens computed by request id."""
    plan = scheduler.schedule()
    scheduler.check_integrity()
    if plan is None:
        return {}
    done(scheduler, plan)
    return {share.sequence.sequence_id: share.tokens for share in plan.shares}


def done(scheduler: Scheduler, plan: StepPlan) -> None:
    for sequence in scheduler.commit(plan.shares):
        if sequence is not None:
            sequence.append(9)
    scheduler.check_integrity()


def test_a_prompt_goes_in_chunks_beside_decodes():
    scheduler = make_scheduler(max_step_tokens=10)
    arrive = Arrivals(scheduler)
    arrive(3)
    assert step(scheduler) == {1: 3}
    arrive(20)
    arrive(20)
    assert step(scheduler) == {1: 1, 2: 8, 3: 1}
    assert step(scheduler) == {1: 1, 2: 8, 3: 1}
    assert step(scheduler) == {1: 1, 2: 4, 3: 5}
    assert step(scheduler) == {1: 1, 2: 1, 3: 8}


def test_batch_arrays_say_where_everything_is():
    scheduler = make_scheduler(prefill_chunk=5)
    arrive = Arrivals(scheduler)
    first = arrive(2)
    step(scheduler)
    second = arrive(6)
    plan = scheduler.schedule()
    assert plan is not None
    batch = plan.batch
    assert batch.token_ids.tolist() == [9, 2, 2, 2, 2, 2]
    assert batch.positions.tolist() == [2, 0, 1, 2, 3, 4]
    assert batch.query_starts.tolist() == [0, 1, 6]
    assert batch.context_lens.tolist() == [3, 5]
    assert batch.block_tables.tolist() == [[*first.blocks, 0], second.blocks]
    block, (one, two) = first.blocks[0], second.blocks
    assert batch.slots.tolist() == [block * 4 + 2, one * 4, one * 4 + 1, one * 4 + 2, one * 4 + 3, two * 4]
    assert [(s.row, s.position, s.output_token_ids) for s in batch.samples] == [(0, 3, [9])]
    assert {array.dtype.name for array in (batch.token_ids, batch.positions, batch.slots)} == {"int64"}
    assert {array.dtype.name for array in (batch.query_starts, batch.context_lens, batch.block_tables)} == {"int32"}


def test_higher_priority_enters_first_then_the_earlier_one():
    scheduler = make_scheduler(max_running=1)
    arrive = Arrivals(scheduler)
    sequences = [arrive(2), arrive(2), arrive(2, priority=5), arrive(2)]
    order = []
    for _ in sequences:
        (sequence_id,) = step(scheduler)
        order.append(sequence_id)
        scheduler.finish(sequences[sequence_id - 1])
    assert order == [3, 1, 2, 4]


def test_a_large_prompt_is_not_overtaken_for_ever():
    """Strictly in turn: what fits may not pass by what does not fit yet."""
    scheduler = make_scheduler(total_blocks=11)
    arrive = Arrivals(scheduler)
    small = arrive(8)
    step(scheduler)
    arrive(36)
    arrive(4)
    assert step(scheduler) == {1: 1}
    scheduler.finish(small)
    assert step(scheduler) == {2: 8}


def test_a_newcomer_leaves_room_for_those_who_run():
    """Each running sequence may need one more block before the newcomer has given any back."""
    scheduler = make_scheduler(total_blocks=9)
    arrive = Arrivals(scheduler)
    arrive(4)
    arrive(4)
    step(scheduler)
    arrive(20)
    step(scheduler)
    assert scheduler.statistics().waiting == 1
    assert scheduler.statistics().preemptions_total == 0


def full_pool(priorities=(0, 0, 0), preemptions=(0, 0, 0)) -> Scheduler:
    """Requests 1 and 2 (12 tokens computed) and 3 (8) fill the 8 blocks, and each needs another block next."""
    scheduler = make_scheduler(total_blocks=9)
    arrive = Arrivals(scheduler)
    sequences = [arrive(size) for size in (8, 8, 4)]
    for _ in range(5):
        assert len(step(scheduler)) == 3
    assert scheduler.statistics().blocks.free == 0
    for sequence, level, count in zip(sequences, priorities, preemptions, strict=True):
        sequence.priority, sequence.preemptions = level, count
    return scheduler


def test_least_work_is_lost():
    scheduler = full_pool()
    assert step(scheduler) == {1: 1, 2: 1}
    assert (scheduler.statistics().waiting, scheduler.statistics().preemptions_total) == (1, 1)


def test_the_lowest_priority_yields_even_if_it_is_the_one_in_need():
    assert step(full_pool(priorities=(0, 1, 1))) == {2: 1, 3: 1}
    assert step(full_pool(priorities=(1, 0, 1))) == {1: 1, 3: 1}


def test_after_three_preemptions_a_sequence_is_no_victim():
    assert step(full_pool(preemptions=(0, 0, 3))) == {2: 1, 3: 1}


def test_a_protected_one_waits_rather_than_take_from_a_higher_priority():
    scheduler = full_pool(priorities=(0, 1, 1), preemptions=(3, 0, 0))
    assert step(scheduler) == {2: 1}
    assert step(scheduler)[1] == 1


def test_if_all_are_protected_somebody_still_moves():
    scheduler = full_pool(preemptions=(3, 3, 3))
    assert step(scheduler) == {1: 1, 2: 1}


def test_a_preempted_one_comes_back_before_later_arrivals_and_keeps_its_output():
    scheduler = full_pool()
    Arrivals(scheduler).count = 10
    late = Sequence(submit(11, [11]), arrival=11, limit=64, seed=0, banned=())
    scheduler.add(late)
    step(scheduler)
    (preempted,) = (s for s in scheduler._waiting if s.sequence_id == 3)
    assert preempted.output == [9] * 5
    for sequence in list(scheduler._running):
        scheduler.finish(sequence)
    plan = scheduler.schedule()
    assert plan is not None
    assert [share.sequence.sequence_id for share in plan.shares] == [3, 11]
    assert plan.batch.token_ids.tolist() == [3] * 4 + [9] * 4 + [11]


def test_late_results_are_dropped():
    scheduler = make_scheduler()
    arrive = Arrivals(scheduler)
    gone, stays = arrive(3), arrive(3)
    plan = scheduler.schedule()
    assert plan is not None
    scheduler.finish(gone)
    assert scheduler.commit(plan.shares) == [None, stays]
    scheduler.check_integrity()


def test_results_of_an_earlier_stay_are_dropped():
    """Preempted and back in the batch before the results came: they belong to KV that is gone."""
    scheduler = make_scheduler()
    sequence = Arrivals(scheduler)(3)
    old = scheduler.schedule()
    assert old is not None
    scheduler._preempt(sequence)
    new = scheduler.schedule()
    assert new is not None
    assert scheduler.commit(old.shares) == [None]
    assert sequence.computed == 0
    assert scheduler.commit(new.shares) == [sequence]


def test_a_waiting_sequence_can_leave():
    scheduler = make_scheduler(max_running=1)
    arrive = Arrivals(scheduler)
    arrive(2)
    step(scheduler)
    waiting = [arrive(2, priority=level) for level in (0, 3, 0)]
    for sequence in waiting:
        scheduler.finish(sequence)
        scheduler.check_integrity()
    assert scheduler.statistics().waiting == 0


# --- prefix cache ---------------------------------------------------------------------------------------------------
def finish_all(scheduler: Scheduler, sequence: Sequence) -> None:
    while sequence.known == len(sequence.prompt):
        step(scheduler)
    scheduler.finish(sequence)


@pytest.mark.parametrize(("prompt", "cached"), [(3, 0), (4, 0), (5, 4), (8, 4), (9, 8)])
def test_a_hit_stops_one_token_short_of_the_prompt(prompt, cached):
    scheduler = make_scheduler(prefix_cache=True)
    arrive = Arrivals(scheduler)
    finish_all(scheduler, arrive(prompt, prompt=[1] * prompt))
    second = arrive(prompt, prompt=[1] * prompt)
    assert step(scheduler)[2] == prompt - cached
    assert second.cached_tokens == cached
    statistics = scheduler.statistics()
    assert (statistics.prefix_queries_total, statistics.prefix_hits_total) == (2 * prompt, cached)


def test_output_is_found_as_the_prompt_of_the_next_turn():
    scheduler = make_scheduler(prefix_cache=True)
    arrive = Arrivals(scheduler)
    first = arrive(3)
    for _ in range(6):
        step(scheduler)
    scheduler.finish(first)
    second = arrive(0, prompt=[*first.prompt, *first.output, 5])
    step(scheduler)
    assert second.cached_tokens == 8


def test_the_same_prompt_at_the_same_time_is_computed_once():
    """As `n` choices of one request are: the others wait for the blocks of the first, then share them."""
    scheduler = make_scheduler(prefix_cache=True)
    arrive = Arrivals(scheduler)
    same = [arrive(18, prompt=list(range(18))) for _ in range(3)]
    arrive(2)
    assert step(scheduler) == {1: 8, 4: 2}
    assert step(scheduler) == {1: 8, 4: 1}
    assert step(scheduler) == {1: 2, 4: 1, 2: 2, 3: 2}
    assert [sequence.cached_tokens for sequence in same] == [0, 16, 16]
    assert len({tuple(sequence.blocks[:4]) for sequence in same}) == 1


def test_who_waits_for_blocks_goes_on_when_their_maker_leaves():
    scheduler = make_scheduler(prefix_cache=True)
    arrive = Arrivals(scheduler)
    maker, other = arrive(18, prompt=list(range(18))), arrive(18, prompt=list(range(18)))
    step(scheduler)
    assert other.row < 0
    scheduler.finish(maker)
    assert step(scheduler) == {2: 8}


def test_coming_back_from_preemption_is_no_prefix_hit():
    scheduler = make_scheduler(prefix_cache=True)
    sequence = Arrivals(scheduler)(9)
    step(scheduler)
    step(scheduler)
    scheduler._preempt(sequence)
    assert step(scheduler) == {1: 2}, "its blocks are still cached"
    statistics = scheduler.statistics()
    assert (sequence.cached_tokens, statistics.prefix_hits_total, statistics.prefix_queries_total) == (0, 0, 9)


def test_a_salt_keeps_sequences_apart():
    scheduler = make_scheduler(prefix_cache=True)
    first, second, third = (
        Sequence(submit(i, [1] * 9, salt=salt), arrival=i, limit=20, seed=0, banned=())
        for i, salt in enumerate([b"a", b"b", b"a"])
    )
    for sequence in (first, second, third):
        scheduler.add(sequence)
        finish_all(scheduler, sequence)
    assert [s.cached_tokens for s in (first, second, third)] == [0, 0, 8]


# --- any load -------------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2)), min_size=1, max_size=12))
def test_every_sequence_ends_and_the_budget_holds(loads):
    scheduler = make_scheduler(total_blocks=17, max_step_tokens=12, prefix_cache=True)
    arrive = Arrivals(scheduler)
    alive = [arrive(size, limit=min(size + more, 64), priority=level) for size, more, level in loads]
    for _ in range(3000):
        alive = [s for s in alive if s.known < s.limit or scheduler.finish(s)]
        if not alive:
            break
        counts = step(scheduler)
        assert 0 < sum(counts.values()) <= 12
        assert max(counts.values()) <= 8
    assert not alive
    assert not scheduler.has_work


def test_a_step_must_have_a_token_for_everybody():
    with pytest.raises(EngineError, match="max_step_tokens = 7 is less than max_running = 8"):
        make_scheduler(max_step_tokens=7)


@pytest.mark.parametrize("key", ["max_running", "prefill_chunk"])
def test_settings_under_which_nothing_runs_are_refused(key):
    with pytest.raises(EngineError, match=f"{key} = 0: nothing could ever run"):
        make_scheduler(**{key: 0})
