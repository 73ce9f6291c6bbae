"""The published state of one circuit breaker."""

from typing import Literal

import msgspec

BreakerState = Literal["closed", "open", "half_open"]


class Permit(msgspec.Struct, frozen=True, gc=False):
    """Permission for one attempt on the rung. `probe` is 0 in the closed state; probe numbers are never reused."""

    epoch: int
    probe: int = 0


class BreakerView(msgspec.Struct, frozen=True, gc=False):
    """A snapshot of a breaker. While it shows "closed", an attempt may start without a message to its owner."""

    state: BreakerState
    epoch: int
    opens_for_s: float = 0.0
    """While open: seconds until the first probe is allowed, counted from the snapshot."""

    def closed_permit(self) -> Permit | None:
        """A permit if the breaker is closed; None if one must be requested from the breaker's owner."""
        return Permit(self.epoch) if self.state == "closed" else None
