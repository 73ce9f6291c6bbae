"""A conversation comes back to the address that knows it; the table is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from policies.queueing.address_affinity import AddressAffinity, bears


def marks(*names: int) -> tuple[bytes, ...]:
    return tuple([b"%d" % name for name in names])


def test_the_longest_beginning_decides() -> None:
    affinity = AddressAffinity()
    assert affinity.address_of(marks(1)) is None
    affinity.answered(marks(1, 2), 0)
    affinity.answered(marks(1, 2, 3), 1)
    assert affinity.address_of(marks(1, 2, 3, 4)) == 1
    assert affinity.address_of(marks(1, 9)) == 1, "the latest to have read it"
    assert affinity.address_of(marks(9)) is None
    assert affinity.address_of(()) is None
    assert affinity.known_total == 2


def test_only_the_last_marks_of_a_conversation_are_remembered() -> None:
    affinity = AddressAffinity()
    affinity.answered(marks(*range(100)), 0)
    assert len(affinity) == 4
    assert affinity.address_of(marks(*range(97))) == 0
    assert affinity.address_of(marks(*range(90))) is None


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2))), st.integers(1, 6))
def test_it_is_bounded_and_the_latest_stay(calls: list[tuple[int, int]], most: int) -> None:
    affinity = AddressAffinity(most)
    for name, number in calls:
        affinity.answered(marks(name), number)
        assert len(affinity) <= most
        assert affinity.address_of(marks(name)) == number
    latest = dict(calls)
    remembered = list(dict.fromkeys(name for name, _ in reversed(calls)))[:most]
    assert all(affinity.address_of(marks(name)) == latest[name] for name in remembered)


def test_load_bounds_it() -> None:
    assert bears(0, 0)
    assert bears(2, 0)
    assert not bears(3, 0)
    assert bears(17, 10)
    assert not bears(18, 10)
