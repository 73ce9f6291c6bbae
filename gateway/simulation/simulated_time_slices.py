"""Time slices on the virtual clock, for engines that share fewer cores. `TimeSliceScheduler` decides, as in service."""

from collections.abc import Sequence
from typing import Protocol

from config.model.settings import EngineSettings, Settings
from config.model.table import AUTO
from engine.core.time_slices import TimeSliceScheduler


class Member(Protocol):
    """An engine that needs a time slice for each step."""

    title: str

    def catch_up(self, now: float) -> None: ...
    def cut(self, now: float) -> None: ...
    def on_time_slice(self, now: float) -> None: ...


def at_once(settings: Settings, cores: int) -> int | None:
    """How many of the engines that share `cores` (0: unknown) may compute at once; None: no limit."""
    limit = cores if settings.cores.at_once == AUTO else settings.cores.at_once
    sharing = sum(each.replicas for each in settings.engines.values() if shares_cores(each))
    return limit if limit and limit < sharing else None


def shares_cores(engine: EngineSettings) -> bool:
    """Whether the engine computes on the CPU."""
    return set(engine.devices or (engine.device,)) == {"cpu"}


class SimulatedTimeSlices:
    """The time slices of all engines that share the cores; they `join` before the first `ask`."""

    def __init__(self, at_once: int) -> None:
        self._scheduler: TimeSliceScheduler[str] = TimeSliceScheduler(at_once)
        self._members: dict[str, Member] = {}

    def join(self, members: Sequence[Member]) -> None:
        self._members |= {member.title: member for member in members}

    @property
    def contended(self) -> bool:
        return self._scheduler.contended

    def ask(self, title: str, now: float) -> bool:
        """Request a time slice. Returns whether it is granted now; otherwise `on_time_slice` is called later."""
        for member in self._members.values():
            member.catch_up(now)
        is_granted = self._scheduler.ask(title)
        if not is_granted:
            for member in self._members.values():
                # After its current step, another engine may get the slice.
                member.cut(now)
        return is_granted

    def used(self, title: str, took_s: float) -> None:
        """Count a step within a run, in which no engine waits for a slice."""
        self._scheduler.done(title, took_s, more=True)

    def done(self, title: str, took_s: float, now: float, *, more: bool) -> None:
        """A step has ended; an engine that is granted a time slice by this begins its step."""
        following = self._scheduler.done(title, took_s, more=more)
        if following is not None:
            self._members[following].on_time_slice(now)
