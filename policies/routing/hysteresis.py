"""A two-threshold switch with a minimum on-time (a Schmitt trigger with dwell)."""


class Hysteresis:
    """On at `enter_at` or above, off below `release_at`, but not before it has been on for `dwell_s`."""

    def __init__(self, enter_at: float, release_at: float, dwell_s: float) -> None:
        self._on_since: float | None = None
        self.apply_settings(enter_at, release_at, dwell_s)

    def apply_settings(self, enter_at: float, release_at: float, dwell_s: float) -> None:
        """Replace the bounds. A switch that is on stays on until the new bounds release it."""
        if release_at > enter_at:
            raise ValueError(f"release_at {release_at} must not be above enter_at {enter_at}")
        self._enter_at = enter_at
        self._release_at = release_at
        self._dwell_s = dwell_s

    @property
    def on(self) -> bool:
        """The state after the last update."""
        return self._on_since is not None

    def update(self, value: float, now: float) -> bool:
        """Take in a new measurement. Returns whether the switch is on."""
        if self._on_since is None:
            if value >= self._enter_at:
                self._on_since = now
        elif value < self._release_at and now - self._on_since >= self._dwell_s:
            self._on_since = None
        return self.on
