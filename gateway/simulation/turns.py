"""Time slices on the virtual clock: which engines compute, of more than may at once.

The engines' own `TimeSliceScheduler` decides.
"""

from collections.abc import Sequence
from typing import Protocol

from config.model.settings import EngineSettings, Settings
from config.model.table import AUTO
from engine.core.time_slices import TimeSliceScheduler


class Member(Protocol):
    """An engine that takes turns."""

    title: str

    def catch_up(self, now: float) -> None: ...
    def cut(self, now: float) -> None: ...
    def on_turn(self, now: float) -> None: ...


def at_once(settings: Settings, cores: int) -> int | None:
    """So many of the engines that share a machine's `cores` compute at once; None: all of them, or it is not known."""
    most = cores if settings.cores.at_once == AUTO else settings.cores.at_once
    sharing = sum(each.replicas for each in settings.engines.values() if shares_cores(each))
    return most if most and most < sharing else None


def shares_cores(engine: EngineSettings) -> bool:
    """It computes on the CPU."""
    return set(engine.devices or (engine.device,)) == {"cpu"}


class SimulatedTimeSlices:
    """One for all engines that share the cores; they join before the first of them asks."""

    def __init__(self, at_once: int) -> None:
        self._book: TimeSliceScheduler[str] = TimeSliceScheduler(at_once)
        self._members: dict[str, Member] = {}

    def join(self, members: Sequence[Member]) -> None:
        """These share the cores."""
        self._members |= {member.title: member for member in members}

    @property
    def calm(self) -> bool:
        """No engine waits: the holders keep their time slices."""
        return not self._book.contended

    def ask(self, title: str, now: float) -> bool:
        """Whether it has a turn now; else its `on_turn` is called when it has."""
        for member in self._members.values():
            member.catch_up(now)
        mine = self._book.ask(title)
        if not mine:
            for member in self._members.values():
                # Whose turn is next is open again when the step in hand ends.
                member.cut(now)
        return mine

    def used(self, title: str, took_s: float) -> None:
        """A step of many that were planned at once, as nobody waited; another one follows."""
        self._book.done(title, took_s, more=True)

    def done(self, title: str, took_s: float, now: float, *, more: bool) -> None:
        """A step has ended; engines that get a time slice by that begin theirs."""
        following = self._book.done(title, took_s, more=more)
        if following is not None:
            self._members[following].on_turn(now)
