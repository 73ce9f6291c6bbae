"""Tracks which cascades stay on one stage because an engine is busy (`when_busy`), with hysteresis."""

from config.model.settings import Settings
from policies.model.features import Features
from policies.model.load import Load
from policies.routing.conditions import Measure, measure_of


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
        return self._on_since is not None

    def update(self, value: float, now: float) -> bool:
        if self._on_since is None:
            if value >= self._enter_at:
                self._on_since = now
        elif value < self._release_at and now - self._on_since >= self._dwell_s:
            self._on_since = None
        return self.on


class BusyBook:
    """One switch for each cascade and tier: the wait is measured relative to the tier's TTFT objective.

    Mutable; the router owns it and updates it whenever it publishes a load.
    """

    def __init__(self, settings: Settings) -> None:
        self._switches: dict[tuple[str, str], tuple[Features, Measure, Hysteresis]] = {}
        self.apply_settings(settings)

    def apply_settings(self, settings: Settings) -> None:
        """Replace the settings. A cascade that is busy stays so until the new bounds release it."""
        slo_ttft_s = {name: float(tier.slo.ttft) for name, tier in settings.tiers.items()}
        old, self._switches = self._switches, {}
        for cascade, cascade_settings in settings.cascades.items():
            when_busy = cascade_settings.when_busy
            if when_busy is None:
                continue
            condition = settings.signals[when_busy.signal].load
            measured = None if condition is None else condition.kv_usage or condition.queue_wait_over_slo
            if condition is None or measured is None or measured.at_least is None:
                raise ValueError(f"cascades.{cascade}.when_busy: the signal must be a load of at_least a value")
            bounds = (measured.at_least, when_busy.release_at, float(when_busy.dwell))
            for tier in settings.tiers:
                switch = old[cascade, tier][2] if (cascade, tier) in old else Hysteresis(*bounds)
                switch.apply_settings(*bounds)
                self._switches[cascade, tier] = (
                    Features(model="", tenant="", tier=tier, prompt_tokens=0, max_tokens=0),
                    measure_of(condition, slo_ttft_s),
                    switch,
                )

    def update(self, load: Load, now: float) -> frozenset[tuple[str, str]]:
        """The (cascade, tier) pairs that are busy, for `Load.busy`. An engine without known load counts as 0."""
        return frozenset(
            key
            for key, (features, measure, switch) in self._switches.items()
            if switch.update(measure(features, load) or 0.0, now)
        )
