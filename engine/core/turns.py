"""Who computes now, of more engines than there are cores: so many at once, each for the same share of time."""

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from engine.errors import EngineError

M = TypeVar("M", bound=Hashable)


class TimeSlice(Protocol):
    """One engine's way to its turns; see `TimeSliceBook`. May block, and so belongs to the engine's own thread."""

    def take(self) -> None:
        """Wait for the turn; return at once if it is held already."""
        ...

    def done(self, *, more: bool) -> None:
        """A step has ended. `more`: there is work for another one, and the turn is kept if it is nobody else's."""
        ...

    def leave(self) -> None:
        """Want no turn any more, held or not."""
        ...


class NoTimeSlices:
    """Everybody computes when they like."""

    def take(self) -> None:
        """See `TimeSlice`."""

    def done(self, *, more: bool) -> None:
        """See `TimeSlice`."""

    def leave(self) -> None:
        """See `TimeSlice`."""


class TimeSliceBook(Generic[M]):
    """A turn goes to the member that has used the least time, so that short steps do not wait for as many long ones.

    While somebody waits who has used less, a member loses its turn at its step's end; it waits for one long step at the
    most, then has as much time for its own. Who was away earns nothing by it: coming back, a member counts as having
    used what the least busy of those present has used.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._used: dict[M, float] = {}
        """Seconds; of whoever has a turn or waits."""
        self._past: dict[M, float] = {}
        """The same of those that are away."""
        self._waiting: list[M] = []
        self._holders: list[M] = []
        """In the order in which they got their turns."""
        self.grants = 0
        """Turns that were given so far."""

    @property
    def contended(self) -> bool:
        """Somebody waits."""
        return bool(self._waiting)

    def ask(self, member: M) -> bool:
        """Whether the member has a turn now; else it waits, and a later call of another method returns it."""
        if member in self._used:
            return member in self._holders
        least = min(self._used.values(), default=0.0)
        self._used[member] = max(self._past.pop(member, 0.0), least)
        self._waiting.append(member)
        return self._hand_on() == member

    def done(self, member: M, took_s: float, *, more: bool) -> M | None:
        """The member's step took so long. Return who has a turn by that.

        It changes nothing if the member has no turn (it took too long, see `overrule`).
        """
        if member not in self._holders:
            return None
        self._used[member] += took_s
        if more and all(self._used[each] >= self._used[member] for each in self._waiting):
            return None
        self._end(member)
        if more:
            self._waiting.append(member)
        else:
            self._past[member] = self._used.pop(member)
        return self._hand_on()

    def overrule(self) -> M | None:
        """Nobody has got a turn for too long: who has had one longest goes on without. Return who has it now."""
        if self._holders:
            del self._used[self._holders[0]]
            self._end(self._holders[0])
        return self._hand_on()

    def leave(self, member: M) -> M | None:
        """Forget the member. Return who has a turn by that."""
        self._past.pop(member, None)
        self._used.pop(member, None)
        if member in self._waiting:
            self._waiting.remove(member)
        elif member in self._holders:
            self._end(member)
        return self._hand_on()

    def check_integrity(self) -> None:
        """Raises EngineError if the books contradict each other."""
        present = [*self._waiting, *self._holders]
        sound = len(set(present)) == len(present) and set(present) == set(self._used)
        if not sound or self._free < 0 or (self._waiting and self._free) or set(self._past) & set(present):
            raise EngineError("turns_integrity", "somebody waits for a turn that nobody has; this is a defect")

    def _end(self, member: M) -> None:
        self._holders.remove(member)
        self._free += 1

    def _hand_on(self) -> M | None:
        """Among equals, to who has waited longest."""
        if not self._waiting or not self._free:
            return None
        following = min(self._waiting, key=self._used.__getitem__)
        self._waiting.remove(following)
        self._holders.append(following)
        self._free -= 1
        self.grants += 1
        return following
