"""Time slicing of engines over fewer cores: a limited number of them steps at once, with equal shares of time."""

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from engine.errors import EngineError

M = TypeVar("M", bound=Hashable)


class TimeSlice(Protocol):
    """One engine's handle on a `TimeSliceScheduler`. Methods may block; only the engine's own thread calls them."""

    def take(self) -> None:
        """Wait for a time slice; return at once if it is held already."""

    def done(self, *, more: bool) -> None:
        """A step has ended. `more`: the engine has work for another; the slice is kept if no other engine is due."""

    def leave(self) -> None:
        """Give the slice back, or stop waiting for one."""


class NoTimeSlices:
    """No limit: every engine may step at any time."""

    def take(self) -> None: ...

    def done(self, *, more: bool) -> None: ...

    def leave(self) -> None: ...


class TimeSliceScheduler(Generic[M]):
    """Fair scheduler of time slices: the next one goes to the member that has used the least time.

    Fairness is by time, not by number of steps, so short steps do not wait for as many long ones. A member loses its
    slice at the end of a step if one with less used time waits; so it waits at most for one long step, and then catches
    up. An absent member saves up no time: on return its used time is at least the minimum among those present (as in
    Linux CFS).
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._used: dict[M, float] = {}
        """Seconds, of members that hold a slice or wait for one."""
        self._used_while_absent: dict[M, float] = {}
        """Seconds, of absent members."""
        self._waiting: list[M] = []
        self._holders: list[M] = []
        """In the order of their grants."""
        self.grants = 0
        """Number of slices granted."""

    @property
    def contended(self) -> bool:
        return bool(self._waiting)

    def ask(self, member: M) -> bool:
        """Request a slice. True: granted; False: the member waits, and a later call of another method returns it."""
        if member in self._used:
            return member in self._holders
        least = min(self._used.values(), default=0.0)
        self._used[member] = max(self._used_while_absent.pop(member, 0.0), least)
        self._waiting.append(member)
        return self._grant_next() == member

    def done(self, member: M, took_s: float, *, more: bool) -> M | None:
        """The member's step took `took_s` seconds. Return the member that is granted a slice by this, if any.

        Ignored if the member holds no slice because `overrule` has revoked it.
        """
        if member not in self._holders:
            return None
        self._used[member] += took_s
        if more and all(self._used[other] >= self._used[member] for other in self._waiting):
            return None
        self._end(member)
        if more:
            self._waiting.append(member)
        else:
            self._used_while_absent[member] = self._used.pop(member)
        return self._grant_next()

    def overrule(self) -> M | None:
        """Revoke the slice held longest, after no grant for too long. Return the member that is granted one by this."""
        if self._holders:
            del self._used[self._holders[0]]
            self._end(self._holders[0])
        return self._grant_next()

    def leave(self, member: M) -> M | None:
        """Remove the member. Return the member that is granted a slice by this, if any."""
        self._used_while_absent.pop(member, None)
        self._used.pop(member, None)
        if member in self._waiting:
            self._waiting.remove(member)
        elif member in self._holders:
            self._end(member)
        return self._grant_next()

    def check_integrity(self) -> None:
        """Raises EngineError if the internal lists contradict each other."""
        present = [*self._waiting, *self._holders]
        sound = len(set(present)) == len(present) and set(present) == set(self._used)
        if not sound or self._free < 0 or (self._waiting and self._free) or set(self._used_while_absent) & set(present):
            raise EngineError("turns_integrity", "the lists of members are inconsistent; this is a defect")

    def _end(self, member: M) -> None:
        self._holders.remove(member)
        self._free += 1

    def _grant_next(self) -> M | None:
        """Grant a free slice to the waiting member with the least used time; ties go to the longest wait."""
        if not self._waiting or not self._free:
            return None
        following = min(self._waiting, key=self._used.__getitem__)
        self._waiting.remove(following)
        self._holders.append(following)
        self._free -= 1
        self.grants += 1
        return following
