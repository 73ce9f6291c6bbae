"""When work may leave the queue for its engine."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from policies.queueing.engine_capacity import EngineCapacity


@dataclass
class Now:
    waiting: int = 0
    free_blocks: int = 100
    steps_total: int = 0


def test_an_empty_engine_takes_anything() -> None:
    room = EngineCapacity(4, 16)
    assert room.fits(9, 1000, Now(waiting=9, free_blocks=0))


def test_places_and_a_little_ahead() -> None:
    room = EngineCapacity(16, 16)
    for _ in range(18):
        assert room.fits(1, 1, Now())
        assert not room.is_settled(1, 1, Now())
        room.enter(1, 1, Now())
    assert not room.fits(1, 1, Now(steps_total=99))
    assert room.is_settled(1, 1, Now())
    room.leave(1)
    assert room.fits(1, 1, Now(steps_total=99))


def test_blocks_count_until_the_figures_show_them() -> None:
    room = EngineCapacity(16, 16)
    room.enter(1, 60, Now())
    assert not room.fits(1, 60, Now())  # the first one's are not taken yet
    assert not room.fits(1, 60, Now(steps_total=1))
    assert not room.is_settled(1, 60, Now(steps_total=1, free_blocks=60))  # steps alone may show more
    assert room.fits(1, 60, Now(steps_total=2))  # the figures show them
    assert not room.fits(1, 60, Now(steps_total=2, free_blocks=60))  # one more for the first one's output
    assert room.fits(1, 60, Now(steps_total=2, free_blocks=61))
    assert room.is_settled(1, 60, Now(steps_total=2, free_blocks=60))
    assert not room.is_settled(1, 60, Now(steps_total=2, free_blocks=61))


def test_a_long_line_in_the_engine_is_not_made_longer() -> None:
    room = EngineCapacity(16, 16)
    room.enter(1, 1, Now())
    assert room.fits(1, 1, Now(waiting=2))
    assert not room.fits(1, 1, Now(waiting=3))


def test_places_alone() -> None:
    room = EngineCapacity(2, None, ahead=0)
    assert room.blocks([100, 200]) == 0
    room.enter(1, 0, None)
    assert room.fits(1, 0, None)
    room.enter(1, 0, None)
    assert not room.fits(1, 0, None)


def test_blocks_of_prompts() -> None:
    assert EngineCapacity(2, 16).blocks([15, 16, 33]) == 1 + 2 + 3


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3), st.integers(0, 5))))
def test_what_has_left_leaves_nothing(moves: list[tuple[bool, int, int]]) -> None:
    room = EngineCapacity(4, 16)
    inside: list[int] = []
    for step, (enter, sequences, blocks) in enumerate(moves):
        if enter:
            room.enter(sequences, blocks, Now(steps_total=step))
            inside.append(sequences)
        elif inside:
            room.leave(inside.pop())
    while inside:
        room.leave(inside.pop())
    assert room.fits(99, 999, Now())
