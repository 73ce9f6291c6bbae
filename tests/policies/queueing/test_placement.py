"""When a replica can start another job, and which replica gets it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from policies.errors import IntegrityError
from policies.queueing.placement import IMBALANCE, EngineCapacity, Placed, Placement, PrefixMark


@dataclass
class EngineNow:
    waiting: int = 0
    free_blocks: int = 100
    best_effort_waiting: int = 0
    best_effort_blocks: int = 0
    steps_total: int = 0


@dataclass
class Prompts:
    prompt_lengths: Sequence[int]


def test_an_empty_engine_takes_anything() -> None:
    room = EngineCapacity(4, 16)
    assert room.fits(9, 1000, EngineNow(waiting=9, free_blocks=0))


def test_places_and_a_little_ahead() -> None:
    room = EngineCapacity(16, 16)
    for _ in range(18):
        assert room.fits(1, 1, EngineNow())
        assert not room.is_settled(1, 1, EngineNow())
        room.enter(1, 1, EngineNow())
    assert not room.fits(1, 1, EngineNow(steps_total=99))
    assert room.is_settled(1, 1, EngineNow())
    room.leave(1)
    assert room.fits(1, 1, EngineNow(steps_total=99))


def test_blocks_count_until_the_figures_show_them() -> None:
    room = EngineCapacity(16, 16)
    room.enter(1, 60, EngineNow())
    assert not room.fits(1, 60, EngineNow())  # the first one's are not taken yet
    assert not room.fits(1, 60, EngineNow(steps_total=1))
    assert not room.is_settled(1, 60, EngineNow(steps_total=1, free_blocks=60))  # steps alone may show more
    assert room.fits(1, 60, EngineNow(steps_total=2))  # the figures show them
    assert not room.fits(1, 60, EngineNow(steps_total=2, free_blocks=60))  # one more for the first one's output
    assert room.fits(1, 60, EngineNow(steps_total=2, free_blocks=61))
    assert room.is_settled(1, 60, EngineNow(steps_total=2, free_blocks=60))
    assert not room.is_settled(1, 60, EngineNow(steps_total=2, free_blocks=61))


def test_a_long_line_in_the_engine_is_not_made_longer() -> None:
    room = EngineCapacity(16, 16)
    room.enter(1, 1, EngineNow())
    assert room.fits(1, 1, EngineNow(waiting=2))
    assert not room.fits(1, 1, EngineNow(waiting=3))


def test_places_alone() -> None:
    room = EngineCapacity(2, None, ahead=0)
    assert room.blocks(Prompts([100, 200])) == 0
    room.enter(1, 0, None)
    assert room.fits(1, 0, None)
    room.enter(1, 0, None)
    assert not room.fits(1, 0, None)


def test_blocks_of_prompts() -> None:
    assert EngineCapacity(2, 16).blocks(Prompts([15, 16, 33])) == 1 + 2 + 3


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3), st.integers(0, 5))))
def test_what_has_left_leaves_nothing(moves: list[tuple[bool, int, int]]) -> None:
    room = EngineCapacity(4, 16)
    inside: list[int] = []
    for step, (enter, sequences, blocks) in enumerate(moves):
        if enter:
            room.enter(sequences, blocks, EngineNow(steps_total=step))
            inside.append(sequences)
        elif inside:
            room.leave(inside.pop())
    while inside:
        room.leave(inside.pop())
    assert room.fits(99, 999, EngineNow())


BLOCK = 16


class Now:
    def __init__(self, outstanding_tokens: int = 0, steps_total: int = 0, total_blocks: int = 100) -> None:
        self.outstanding_tokens = outstanding_tokens
        self.steps_total = steps_total
        self.total_blocks = total_blocks


def marks(*names: str) -> tuple[PrefixMark, ...]:
    return tuple(PrefixMark(name.encode(), BLOCK << depth) for depth, name in enumerate(names))


def placement(replicas: int = 2) -> Placement:
    return Placement(replicas, BLOCK)


def test_nobody_who_is_able() -> None:
    assert placement().choose([], Placed(1, 10), [None, None]) is None


def test_the_least_loaded_one_and_turns_among_equals() -> None:
    place = placement(3)
    figures = [Now(), Now(), Now()]
    for number, expected in enumerate([0, 1, 2]):
        assert place.choose([0, 1, 2], Placed(number, 10), figures) == expected
        place.enter(expected, Placed(number, 10), figures[expected])
    place.leave(1, 1)
    assert place.choose([0, 1, 2], Placed(3, 10), figures) == 1
    assert place.choose([0, 2], Placed(3, 10), figures) == 0


def test_tokens_count_until_the_figures_show_them_and_then_as_the_figures_say() -> None:
    place = placement()
    place.enter(0, Placed("a", 500), Now(steps_total=7))
    assert place.ahead(0, Now(20, 8)) == 520
    assert place.ahead(0, Now(480, 9)) == 480
    assert place.ahead(0, Now(3, 200)) == 3  # it has nearly ended
    assert place.ahead(1, Now(99)) == 0  # what is not in there is of the past
    place.leave(0, "a")
    assert place.ahead(0, Now(3, 200)) == 0


def test_who_knows_the_prompt_is_preferred() -> None:
    place = placement()
    figures = [Now(), Now()]
    place.enter(1, Placed("a", 80, marks("x", "xy")), figures[1])
    place.leave(1, "a")
    for name in ("x", "z"):
        assert place.choose([0, 1], Placed("b", 80, marks("x", name)), figures) == 1
    assert place.choose([0, 1], Placed("b", 80, marks("y")), figures) == 0
    assert place.known(1, marks("x", "xy")) == 32
    assert place.known(1, marks("x", "z")) == 16


def test_but_not_at_any_price() -> None:
    place = placement()
    figures = [Now(), Now()]
    for number in range(4):
        work = Placed(number, 100, marks("hot"))
        chosen = place.choose([0, 1], work, figures)
        assert chosen is not None
        place.enter(chosen, work, figures[chosen])
    assert [place.ahead(number, figures[number]) for number in (0, 1)] == [200, 200]


def test_as_much_is_remembered_as_the_pool_has_room_for() -> None:
    place = placement()
    small = Now(total_blocks=3)
    place.enter(0, Placed("a", 1, marks("a", "ab")), small)
    place.enter(0, Placed("b", 1, marks("b")), small)
    assert place.known(0, marks("a", "ab")) == 32
    place.enter(0, Placed("c", 1, marks("c")), small)
    assert place.known(0, marks("a", "ab")) == 16  # its end first
    assert place.known(0, marks("b")) == place.known(0, marks("c")) == 16
    place.forget(0)
    assert place.known(0, marks("c")) == 0
    assert place.ahead(0, small) == 0


def test_a_contradiction_is_found() -> None:
    place = placement()
    place._replicas[0].held_tokens = 1
    with pytest.raises(IntegrityError):
        place.check_integrity()


names = st.lists(st.sampled_from("abc"), max_size=4).map(
    lambda parts: marks(*["".join(parts[: end + 1]) for end in range(len(parts))])
)
tokens = st.integers(1, 400)


class Placing(RuleBasedStateMachine):
    """Replicas that make tokens, lose lives and hear late."""

    def __init__(self) -> None:
        super().__init__()
        self.place = placement(3)
        self.now: list[Now] = [Now(total_blocks=6) for _ in range(3)]
        self.inside: list[dict[int, int]] = [{}, {}, {}]
        self.number = 0

    @rule(count=tokens, prompt=names, able=st.sets(st.integers(0, 2), min_size=1))
    def offer(self, count: int, prompt: Sequence[PrefixMark], able: set[int]) -> None:
        self.number += 1
        work = Placed(self.number, count, tuple(prompt))
        chosen = self.place.choose(sorted(able), work, self.now)
        assert chosen in able
        assert chosen == self.place.choose(sorted(able), work, self.now)
        ahead = {each: self.place.ahead(each, self.now[each]) for each in able}
        known = {each: self.place.known(each, prompt) for each in able}
        assert ahead[chosen] <= IMBALANCE * min(ahead.values()) + known[chosen]
        assert known[chosen] >= known[min(able, key=lambda each: (ahead[each], each))]
        if not any(known.values()):
            assert ahead[chosen] == min(ahead.values())
        self.place.enter(chosen, work, self.now[chosen])
        self.inside[chosen][self.number] = count
        assert self.place.known(chosen, prompt) >= min(len(prompt), 1) * BLOCK

    @rule(replica=st.integers(0, 2), steps=st.integers(1, 3))
    def step(self, replica: int, steps: int) -> None:
        inside = self.inside[replica]
        for work in inside:
            inside[work] = max(inside[work] - steps, 1)
        self.now[replica].steps_total += steps
        self.now[replica].outstanding_tokens = sum(inside.values())

    @precondition(lambda self: any(self.inside))
    @rule(pick=st.integers(0, 99))
    def end(self, pick: int) -> None:
        living = [(replica, work) for replica, inside in enumerate(self.inside) for work in inside]
        replica, work = living[pick % len(living)]
        del self.inside[replica][work]
        self.place.leave(replica, work)
        self.place.leave(replica, work)

    @rule(replica=st.integers(0, 2))
    def die(self, replica: int) -> None:
        self.place.forget(replica)
        self.inside[replica].clear()
        self.now[replica] = Now(total_blocks=6)

    @invariant()
    def books_are_right(self) -> None:
        self.place.check_integrity()
        for replica, inside in enumerate(self.inside):
            ahead = self.place.ahead(replica, self.now[replica])
            if not inside:
                assert ahead == 0
            assert self.place._replicas[replica].held_tokens <= 6 * BLOCK


TestPlacing = Placing.TestCase


@given(st.lists(tokens, min_size=1, max_size=40), st.integers(2, 4))
def test_without_prefixes_no_one_is_further_ahead_than_one_work(counts: list[int], replicas: int) -> None:
    place = placement(replicas)
    figures = [Now() for _ in range(replicas)]
    for number, count in enumerate(counts):
        chosen = place.choose(range(replicas), Placed(number, count), figures)
        assert chosen is not None
        place.enter(chosen, Placed(number, count), figures[chosen])
    ahead = [place.ahead(each, figures[each]) for each in range(replicas)]
    assert max(ahead) - min(ahead) <= max(counts)


def test_best_effort_sequences_hold_no_place_of_others() -> None:
    room = EngineCapacity(4, 16, ahead=0)
    for _ in range(4):
        room.enter(1, 1, EngineNow(), best_effort=True)
    assert not room.fits(1, 1, EngineNow(), best_effort=True)
    assert room.fits(4, 1, EngineNow(free_blocks=0))
    room.enter(2, 1, EngineNow())
    assert room.fits(2, 1, EngineNow(steps_total=9))
    assert not room.fits(3, 1, EngineNow(steps_total=9))
    room.leave(1, best_effort=True)
    assert not room.fits(1, 1, EngineNow(steps_total=9), best_effort=True)


def test_their_blocks_and_those_that_wait_are_not_in_the_way() -> None:
    room = EngineCapacity(4, 16, ahead=1)
    room.enter(1, 1, EngineNow())
    room.enter(1, 1, EngineNow(), best_effort=True)
    full = EngineNow(free_blocks=2, best_effort_blocks=50, waiting=3, best_effort_waiting=3, steps_total=9)
    assert room.fits(1, 40, full)
    assert not room.fits(1, 1, full, best_effort=True)
    assert not room.fits(1, 40, EngineNow(free_blocks=2, steps_total=9))


def test_an_upstream_gives_half_of_its_places_to_best_effort() -> None:
    room = EngineCapacity(5, None, ahead=0, gives_way=False)
    for _ in range(2):
        assert room.fits(1, 0, None, best_effort=True)
        room.enter(1, 0, None, best_effort=True)
    assert not room.fits(1, 0, None, best_effort=True)
    # It cannot take back what runs there.
    assert room.fits(3, 0, None)
    assert not room.fits(4, 0, None)
