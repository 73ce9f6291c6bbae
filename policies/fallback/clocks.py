"""The clocks of one answer: when the first output of an attempt is due, and which clock ends an attempt.

| clock | runs while | ends an attempt with | what follows |
| --- | --- | --- | --- |
| queue | the job waits in a queue | a refusal, `queue_timeout` | the next rung |
| first output | nothing came of the attempt yet | a failure, `ttft_timeout` | the next rung |
| stall | something came of it | a failure, `stall` | the next rung; an upstream may be asked again |
| total | always | a failure, `total_timeout` | nothing |

Which clock fires first decides what can still be done. So an attempt that another one could follow does not get all of
the route's `ttft`, or the other one would have no time; and once a first token came in time, from whichever attempt,
the route's `ttft` is kept: what breaks off afterwards is bounded by `total`.
"""

from typing import Literal

import msgspec

_SHARE = 2 / 3
"""Of the time that is left for a first token: so much for an attempt that another one could follow."""

Clock = Literal["queue_timeout", "ttft_timeout", "stall", "total_timeout"]


class Clocks(msgspec.Struct, frozen=True):
    """Of one answer. All times are on the clock of the plan's deadlines."""

    ttft_at: float
    total_at: float
    stall_s: float
    ttft_s: float
    """From the answer's begin to `ttft_at`: what an attempt gets after a first token came."""

    def first_due(self, begins_at: float, *, rung_s: float | None, others: bool, came: bool, committed: bool) -> float:
        """When the first output of an attempt is due.

        `rung_s`: the rung's own `ttft`; `others`: another rung could follow; `came`: an earlier attempt has had output;
        `committed`: the client has a part of the answer.
        """
        if came or committed:
            allowed_s = self.ttft_s if rung_s is None else rung_s
            # A client that has a part waits for the next one anyway.
            return min(self.total_at, begins_at + (max(allowed_s, self.stall_s) if committed else allowed_s))
        if rung_s is not None:
            return min(self.ttft_at, begins_at + rung_s)
        return begins_at + (self.ttft_at - begins_at) * _SHARE if others else self.ttft_at

    def fired(self, now: float, first_due: float, stall_at: float | None, *, has_started: bool) -> Clock | None:
        """Which clock has ended an attempt. `stall_at`: when its next output is due; None: it had none yet."""
        if now < self.due(first_due, stall_at):
            return None
        if now >= self.total_at:
            return "total_timeout"
        if stall_at is not None:
            return "stall"
        return "ttft_timeout" if has_started else "queue_timeout"

    def due(self, first_due: float, stall_at: float | None) -> float:
        """When the next clock fires."""
        return min(first_due if stall_at is None else stall_at, self.total_at)
