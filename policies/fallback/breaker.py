"""A circuit breaker: stops attempts on a failing or slow rung for a while, then decides by a few probes.

    closed ──failure or slow rate reached──▶ open ──`open` has passed──▶ half_open ──`probes` successes──▶ closed
                                              ▲─────────any probe fails or is slow─────┘

Each change of state starts a new epoch; a record that belongs to an earlier one is ignored, so an attempt which began
before the breaker opened can neither close it nor keep it open.

An operator may force it for a while: open, it lets nothing through and then probes; closed, no outcome opens it.
"""

from collections import deque
from typing import Literal

import msgspec

from config.model.routing import BreakerSettings
from policies.errors import IntegrityError
from policies.model.load import BreakerState, BreakerView, Permit

_SLICES = 10
"""The rolling window moves in steps of a tenth."""


Force = Literal["open", "closed", "none"]


class BreakerOpen(msgspec.Struct, frozen=True, gc=False):
    """No permit; ask again after `retry_after_s`."""

    retry_after_s: float


class BreakerStatistics(msgspec.Struct, frozen=True):
    """Figures of one breaker."""

    state: BreakerState
    epoch: int
    succeeded: int
    """In the window."""
    failed: int
    """In the window."""
    slow: int
    """Of those that succeeded."""
    opened_total: int
    refused_total: int
    probes_out: int


class _Slice(msgspec.Struct, gc=False):
    start: float
    succeeded: int = 0
    failed: int = 0
    slow: int = 0


class Breaker:
    """One rung's breaker. `now` never runs backwards."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._slice_s = settings.over / _SLICES
        self.state: BreakerState = "closed"
        """Time alone moves it from open to half_open only at the next `permit`."""
        self._epoch = 0
        self._slices: deque[_Slice] = deque()
        self._succeeded = 0
        self._failed = 0
        self._slow = 0
        self._forced: Force = "none"
        self._forced_until = 0.0
        self._open_until = 0.0
        self._probes_out: dict[int, float] = {}
        self._probes_passed = 0
        self._next_probe = 1
        self._opened_total = 0
        self._refused_total = 0

    def apply_settings(self, settings: BreakerSettings) -> None:
        """Replace the settings. State and counts are kept, but probing starts again."""
        if settings == self._settings:
            return
        self._settings = settings
        self._slice_s = settings.over / _SLICES
        if self.state == "half_open":
            self._enter("half_open")

    def force(self, how: Force, until: float) -> None:
        """Hold it open or closed until then, or "none": end that, and begin closed with nothing counted."""
        if how == "none" and self._forced == "none":
            return
        self._forced, self._forced_until = how, until
        self._enter("open" if how == "open" else "closed")
        self._open_until = until

    def forced(self, now: float) -> Force:
        return self._forced if now < self._forced_until else "none"

    def forced_for_s(self, now: float) -> float:
        return self._forced_until - now if self.forced(now) != "none" else 0.0

    def is_slow(self, ttft_s: float | None) -> bool:
        limit = self._settings.slow_after
        return limit is not None and ttft_s is not None and ttft_s >= limit

    def closed_permit(self) -> Permit | None:
        """A permit while the breaker is closed, which changes nothing; None: it must be requested by `permit`."""
        return Permit(self._epoch) if self.state == "closed" else None

    def permit(self, now: float) -> Permit | BreakerOpen:
        """A permit for one attempt; each permit must be followed by one `record`."""
        if self.state == "closed":
            return Permit(self._epoch)
        if self.state == "open":
            if now < self._open_until:
                self._refused_total += 1
                return BreakerOpen(self._open_until - now)
            self._enter("half_open")
        return self._probe(now)

    def record(self, permit: Permit, ok: bool | None, now: float, ttft_s: float | None = None) -> None:
        """Record an attempt's outcome. None: no evidence about the rung (the client left, the queue was full).

        `ttft_s`: from the attempt's start to its first output, if there was one.
        """
        if permit.epoch != self._epoch or self.forced(now) == "closed":
            return
        slow = bool(ok) and self.is_slow(ttft_s)
        if self.state == "half_open":
            self._record_probe(permit, ok and not slow, now)
        elif self.state == "closed" and ok is not None:
            self._count(ok, slow, now)
            self._judge(ok, slow, now)

    def view(self, now: float) -> BreakerView:
        """The snapshot to publish; after `open` has passed it shows half_open, so that a probe is requested."""
        if self.state == "open":
            left = self._open_until - now
            return BreakerView("open" if left > 0 else "half_open", self._epoch, max(left, 0.0))
        return BreakerView(self.state, self._epoch)

    def statistics(self) -> BreakerStatistics:
        return BreakerStatistics(
            state=self.state,
            epoch=self._epoch,
            succeeded=self._succeeded,
            failed=self._failed,
            slow=self._slow,
            opened_total=self._opened_total,
            refused_total=self._refused_total,
            probes_out=len(self._probes_out),
        )

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if the window's sums or the probes do not add up."""
        if self._succeeded != sum(s.succeeded for s in self._slices):
            raise IntegrityError("the breaker's successes differ from its slices")
        if self._failed != sum(s.failed for s in self._slices):
            raise IntegrityError("the breaker's failures differ from its slices")
        if self._slow != sum(s.slow for s in self._slices):
            raise IntegrityError("the breaker's slow answers differ from its slices")
        if self.state != "half_open" and (self._probes_out or self._probes_passed):
            raise IntegrityError("probes are out although the breaker is not half open")
        if len(self._probes_out) + self._probes_passed > self._settings.probes:
            raise IntegrityError("more probes than the settings allow")

    def _probe(self, now: float) -> Permit | BreakerOpen:
        # A probe whose outcome was never recorded (its owner died) must not keep the breaker open for ever.
        lost_after_s = max(self._settings.open, self._settings.over)
        self._probes_out = {probe: at for probe, at in self._probes_out.items() if now - at < lost_after_s}
        if len(self._probes_out) + self._probes_passed >= self._settings.probes:
            self._refused_total += 1
            oldest = min(self._probes_out.values())
            return BreakerOpen(min(self._settings.open, max(oldest + lost_after_s - now, 0.001)))
        probe = self._next_probe
        self._next_probe += 1
        self._probes_out[probe] = now
        return Permit(self._epoch, probe)

    def _record_probe(self, permit: Permit, ok: bool | None, now: float) -> None:
        if self._probes_out.pop(permit.probe, None) is None or ok is None:
            return
        if not ok:
            self._open(now)
            return
        self._probes_passed += 1
        if self._probes_passed >= self._settings.probes:
            self._enter("closed")

    def _judge(self, ok: bool, slow: bool, now: float) -> None:
        settings, total = self._settings, self._succeeded + self._failed
        if total < settings.at_least:
            return
        fails = not ok and self._failed >= settings.failure_rate * total
        if fails or (slow and self._slow >= settings.slow_rate * total):
            self._open(now)

    def _count(self, ok: bool, slow: bool, now: float) -> None:
        slices = self._slices
        while slices and slices[0].start + self._settings.over <= now:
            old = slices.popleft()
            self._succeeded -= old.succeeded
            self._failed -= old.failed
            self._slow -= old.slow
        if not slices or now >= slices[-1].start + self._slice_s:
            slices.append(_Slice(now))
        if ok:
            slices[-1].succeeded += 1
            self._succeeded += 1
            slices[-1].slow += slow
            self._slow += slow
        else:
            slices[-1].failed += 1
            self._failed += 1

    def _open(self, now: float) -> None:
        self._enter("open")
        self._open_until = now + self._settings.open
        self._opened_total += 1

    def _enter(self, state: BreakerState) -> None:
        self.state = state
        self._epoch += 1
        self._slices.clear()
        self._succeeded = self._failed = self._slow = 0
        self._probes_out.clear()
        self._probes_passed = 0
