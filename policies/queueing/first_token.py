"""How long a backend takes from a job's start to its first output.

A smoothed mean and deviation, as TCP estimates round trips (RFC 6298, section 2).
"""

import msgspec

_GAIN = 0.125
_DEVIATION_GAIN = 0.25
_DEVIATIONS = 2.0


class FirstTokenTime(msgspec.Struct, eq=False):
    """One backend's, over all its replicas."""

    mean_s: float | None = None
    deviation_s: float = 0.0

    def add(self, seconds: float) -> None:
        if self.mean_s is None:
            self.mean_s, self.deviation_s = seconds, seconds / 2
            return
        error = seconds - self.mean_s
        self.deviation_s += _DEVIATION_GAIN * (abs(error) - self.deviation_s)
        self.mean_s += _GAIN * error

    @property
    def least_s(self) -> float:
        """What is given up with less left would hardly be in time; 0 while nothing is known."""
        return self.mean_s or 0.0

    @property
    def allowance_s(self) -> float:
        """What to leave for it so that most first outputs are in time; 0 while nothing is known."""
        return 0.0 if self.mean_s is None else self.mean_s + _DEVIATIONS * self.deviation_s
