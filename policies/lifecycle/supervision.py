"""OTP's supervision, as decisions: whether a child that ended is restarted, how soon, and when its group gives up.

Children start in order and are stopped in reverse. A child that ends is restarted alone (one_for_one). More than
`intensity` restarts within `period_s` and the group gives up: what that means is the decision of the supervisor above.

Beyond OTP: there is a pause before each restart, which grows with the child's restarts within the period; and the
children of a group may stand in for each other: while one of them has run for a whole period, the others' restarts do
not count, however many.
"""

from collections import deque
from typing import Literal

import msgspec

Restart = Literal["permanent", "temporary"]


class ChildSpec(msgspec.Struct, frozen=True, gc=False):
    """permanent: always restarted; temporary: never."""

    name: str
    restart: Restart = "permanent"


class Backoff(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The pause before a child's k-th restart within the period: `first_s` · `factor`^(k-1), at most `longest_s`.

    A random number shortens it by up to `jitter` of itself, so that children do not come back in step.
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


class RestartChild(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Start the child that has ended again, after this pause."""

    after_s: float


class Forget(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The child has ended for good; the others run on."""


class EscalateFailure(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Restarts do not help: stop these in this order, and fail."""

    stop: tuple[str, ...]
    why: str


SupervisionDecision = RestartChild | Forget | EscalateFailure


class SupervisionStatistics(msgspec.Struct, frozen=True):
    """Figures of one supervisor."""

    running: tuple[str, ...]
    restarts_total: int
    restarts_in_period: int
    """Those that count towards the intensity."""


class Supervision:
    """Decides; the shell stops, waits and starts. `now` never runs backwards."""

    def __init__(
        self,
        children: tuple[ChildSpec, ...],
        *,
        intensity: int | None = 3,
        period_s: float = 30.0,
        backoff: Backoff | None = None,
        stand_in: bool = False,
    ) -> None:
        """`intensity` None: it never gives up. `stand_in`: the children stand in for each other."""
        names = [child.name for child in children]
        if len(set(names)) != len(names):
            raise ValueError(f"children need different names: {names}")
        self._specs = {child.name: child for child in children}
        self._order = tuple(names)
        self._intensity = intensity
        self._period_s = period_s
        self._backoff = backoff or Backoff()
        self._stand_in = stand_in
        self._running = set(names)
        self._restarts: dict[str, deque[float]] = {name: deque() for name in names}
        """Within the period, by child."""
        self._counted: deque[float] = deque()
        """Those of them that count towards the intensity."""
        self._restarts_total = 0
        self._given_up = False

    def exited(self, name: str, now: float, random01: float) -> SupervisionDecision:
        """A child has ended, with an error or without. The shell reports each end once, but none that it caused."""
        self._running.discard(name)
        if self._given_up or self._specs[name].restart == "temporary":
            return Forget()
        for times in (*self._restarts.values(), self._counted):
            while times and times[0] + self._period_s <= now:
                times.popleft()
        if not (self._stand_in and any(not self._restarts[other] for other in self._running)):
            if self._intensity is not None and len(self._counted) >= self._intensity:
                why = f" after {self._intensity} restarts within {self._period_s:g} s" if self._intensity else ""
                return EscalateFailure(self.shutdown(), f"{name} ended{why}")
            self._counted.append(now)
        own = self._restarts[name]
        own.append(now)
        self._restarts_total += 1
        self._running.add(name)
        return RestartChild(self._backoff.delay_s(len(own), random01))

    def shutdown(self) -> tuple[str, ...]:
        """The order in which to stop everything; no child is restarted after this."""
        self._given_up = True
        stop = tuple(name for name in reversed(self._order) if name in self._running)
        self._running.clear()
        return stop

    def statistics(self) -> SupervisionStatistics:
        running = tuple(name for name in self._order if name in self._running)
        return SupervisionStatistics(running, self._restarts_total, len(self._counted))
