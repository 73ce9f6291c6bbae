"""Whose turn it is: upper tiers first, owners in turn, nothing lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.queueing.turn_queue import TurnQueue, WorkFor

ORDERS = {
    "in the order of arrival": ("a a a", "0 1 2"),
    "owners in turn": ("a a a b c", "0 3 4 1 2"),
    "upper tiers first": ("a.1 a.2 b.0 c.1 b.0", "2 4 0 3 1"),
    "one name in two tiers": ("a.1 a.1 a.0", "2 0 1"),
}


def work_of(word: str) -> WorkFor:
    owner, _, tier = word.partition(".")
    return WorkFor(owner, int(tier or 0))


@pytest.mark.parametrize("name", ORDERS)
def test_the_order(name: str) -> None:
    added, taken = ORDERS[name]
    queue = TurnQueue()
    numbers = [queue.add(work_of(word)) for word in added.split()]
    assert [numbers.index(queue.next() or 0) for _ in numbers] == [int(each) for each in taken.split()]
    assert (queue.next(), len(queue)) == (None, 0)


def test_a_newcomer_waits_for_one_piece_of_each_other_owner_at_most() -> None:
    queue = TurnQueue()
    for _ in range(100):
        queue.add(WorkFor("a"))
    for _ in range(50):
        queue.next()
    late = queue.add(WorkFor("b"))
    assert late in {queue.next(), queue.next()}
    # Who had nothing to do for long gets no more than its turn for it.
    for _ in range(10):
        queue.add(WorkFor("c"))
        queue.add(WorkFor("a"))
    assert len(queue) == 69


def test_a_withdrawn_piece_has_no_turn() -> None:
    queue = TurnQueue()
    first, second, third = [queue.add(WorkFor(owner)) for owner in "aab"]
    queue.withdraw(first)
    queue.withdraw(first)
    assert [queue.next(), queue.next(), queue.next()] == [third, second, None]
    queue.withdraw(third)
    assert len(queue) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.sampled_from(["add", "next", "withdraw"]))))
def test_nothing_is_lost_and_no_tier_overtakes_one_above(steps: list[tuple[str, int, str]]) -> None:
    queue, waiting = TurnQueue(), dict[int, WorkFor]()
    for owner, tier, what in steps:
        if what == "add":
            waiting[queue.add(WorkFor(owner, tier))] = WorkFor(owner, tier)
        elif what == "withdraw" and waiting:
            number = min(waiting)
            queue.withdraw(number)
            del waiting[number]
        elif what == "next":
            number = queue.next() or 0
            assert bool(number) is bool(waiting)
            if number:
                taken = waiting.pop(number).tiers_above
                assert all(taken <= each.tiers_above for each in waiting.values())
        assert len(queue) == len(waiting)
