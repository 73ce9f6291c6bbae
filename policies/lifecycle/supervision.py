"""OTP's supervision, as decisions: who is restarted when a child ends, how soon, and when to give up.

Children stand in start order and are stopped in reverse. one_for_one restarts the child that ended; rest_for_one also
those that were started after it. More than `intensity` restarts within `period_s` escalate: the supervisor fails.

Beyond OTP: children with the same `spare` stand in for each other. While one of them has run for a whole period, the
others' restarts do not escalate, however many.
"""

from collections import deque
from typing import Literal

import msgspec

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "rest_for_one"]


class ChildSpec(msgspec.Struct, frozen=True, gc=False):
    """permanent: always restarted; transient: only after an error; temporary: never.

    `spare`: the name of a group whose members stand in for each other.
    """

    name: str
    restart: Restart = "permanent"
    spare: str | None = None


class Backoff(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The pause before the k-th restart within the period: `first_s` · `factor`^(k-1), at most `longest_s`.

    Chance shortens it by up to `jitter` of itself, so that children do not come back in step.
    """

    first_s: float = 0.1
    factor: float = 2.0
    longest_s: float = 10.0
    jitter: float = 0.5

    def delay_s(self, restarts: int, random01: float) -> float:
        """For restart number `restarts` (1, 2, ...) and a random number in 0..1."""
        pause = self.first_s
        for _ in range(restarts - 1):
            pause *= self.factor
            if pause >= self.longest_s:
                break
        pause = min(pause, self.longest_s)
        return pause * (1 - self.jitter * random01)


class RestartChildren(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Stop these in this order, wait, start these in this order."""

    stop: tuple[str, ...]
    start: tuple[str, ...]
    after_s: float


class Forget(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The child has ended for good, and that is all right."""


class GiveUpAll(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Stop these in this order and fail: restarts do not help."""

    stop: tuple[str, ...]
    why: str


SupervisionDecision = RestartChildren | Forget | GiveUpAll


class SupervisionStatistics(msgspec.Struct, frozen=True):
    """Figures of one supervisor."""

    running: tuple[str, ...]
    restarts_total: int
    restarts_in_period: int


class Supervision:
    """Decides; the shell stops, waits and starts. `now` never runs backwards."""

    def __init__(
        self,
        children: tuple[ChildSpec, ...],
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 3,
        period_s: float = 30.0,
        backoff: Backoff | None = None,
    ) -> None:
        names = [child.name for child in children]
        if len(set(names)) != len(names):
            raise ValueError(f"children need different names: {names}")
        self._specs = {child.name: child for child in children}
        self._order = tuple(names)
        self._strategy = strategy
        self._intensity = intensity
        self._period_s = period_s
        self._backoff = backoff or Backoff()
        self._running = set(names)
        self._restarts: deque[float] = deque()
        """Of those that have no spare."""
        self._spared: dict[str, deque[float]] = {child.name: deque() for child in children if child.spare is not None}
        """All restarts of those that may have one."""
        self._restarts_total = 0
        self._given_up = False

    def exited(self, name: str, failed: bool, now: float, random01: float) -> SupervisionDecision:
        """A child has ended, with an error or without. The shell tells each end once, and not those that it caused."""
        spec = self._specs[name]
        self._running.discard(name)
        if self._given_up:
            return Forget()
        if spec.restart == "temporary" or (spec.restart == "transient" and not failed):
            return Forget()
        counted = self._restarts
        if spec.spare is not None:
            for own in self._spared.values():
                self._forgive(own, now)
            if self._has_spare(spec):
                counted = self._spared[name]
            else:
                self._spared[name].append(now)
        self._forgive(self._restarts, now)
        if counted is self._restarts and len(counted) >= self._intensity:
            self._given_up = True
            stop = tuple(other for other in reversed(self._order) if other in self._running)
            self._running.clear()
            why = f"{name} ended after {self._intensity} restarts within {self._period_s:g} s"
            return GiveUpAll(stop, why)
        counted.append(now)
        self._restarts_total += 1
        after_s = self._backoff.delay_s(len(counted), random01)
        younger = self._order[self._order.index(name) + 1 :] if self._strategy == "rest_for_one" else ()
        stop = tuple(other for other in reversed(younger) if other in self._running)
        # A temporary child that is stopped with the rest does not come back, as in OTP.
        back = [other for other in younger if other in self._running and self._specs[other].restart != "temporary"]
        self._running.difference_update(stop)
        start = (name, *back)
        self._running.update(start)
        return RestartChildren(stop, start, after_s)

    def _forgive(self, restarts: deque[float], now: float) -> None:
        while restarts and restarts[0] + self._period_s <= now:
            restarts.popleft()

    def _has_spare(self, spec: ChildSpec) -> bool:
        return any(
            other.spare == spec.spare and not self._spared[other.name]
            for other in self._specs.values()
            if other.name in self._running and other.spare is not None and other.name != spec.name
        )

    def shutdown(self) -> tuple[str, ...]:
        """The order in which to stop everything; no child is restarted after this."""
        self._given_up = True
        stop = tuple(name for name in reversed(self._order) if name in self._running)
        self._running.clear()
        return stop

    def statistics(self) -> SupervisionStatistics:
        """Figures as of the last call."""
        running = tuple(name for name in self._order if name in self._running)
        return SupervisionStatistics(running, self._restarts_total, len(self._restarts))
