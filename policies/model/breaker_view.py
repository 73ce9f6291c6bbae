"""What is published of one circuit breaker."""

from typing import Literal

import msgspec

BreakerState = Literal["closed", "open", "half_open"]


class Permit(msgspec.Struct, frozen=True, gc=False):
    """Leave to try the rung once. `probe` is 0 in the closed state; a probe's number is never given twice."""

    epoch: int
    probe: int = 0


class BreakerView(msgspec.Struct, frozen=True, gc=False):
    """A published snapshot: enough to go ahead while the breaker is closed, without asking its owner."""

    state: BreakerState
    epoch: int
    opens_for_s: float = 0.0
    """While open: until the first probe may go, at the time of the snapshot."""

    def closed_permit(self) -> Permit | None:
        """A permit if the breaker is closed; None: ask the breaker itself."""
        return Permit(self.epoch) if self.state == "closed" else None
