"""Which cascades stay on one stage because an engine is busy, with hysteresis, by tier."""

from config.model.conditions import LoadCondition
from config.model.settings import Settings
from policies.model.features import Features
from policies.model.load import Load
from policies.routing.conditions import Measure, measure_of
from policies.routing.hysteresis import Hysteresis


class BusyBook:
    """Mutable; owned by the router, which updates it whenever it publishes a load.

    It is kept by (cascade, tier) because the wait is measured against the tier's own promise.
    """

    def __init__(self, settings: Settings) -> None:
        self._switches: dict[tuple[str, str], tuple[Features, Measure, Hysteresis]] = {}
        self.apply_settings(settings)

    def apply_settings(self, settings: Settings) -> None:
        """Other settings from now on; what is busy stays so until the new ones release it."""
        slo_ttft_s = {name: float(tier.slo.ttft) for name, tier in settings.tiers.items()}
        old, self._switches = self._switches, {}
        for cascade, given in settings.cascades.items():
            if given.when_busy is None:
                continue
            condition = settings.signals[given.when_busy.signal].load
            if condition is None:
                raise ValueError(f"cascades.{cascade}.when_busy: the signal must be a condition on the load")
            bounds = (_enter_at(condition), given.when_busy.release_at, float(given.when_busy.dwell))
            for tier in settings.tiers:
                switch = old[cascade, tier][2] if (cascade, tier) in old else Hysteresis(*bounds)
                switch.apply_settings(*bounds)
                self._switches[cascade, tier] = (
                    Features(model="", tenant="", tier=tier, prompt_tokens=0, max_tokens=0),
                    measure_of(condition, slo_ttft_s),
                    switch,
                )

    def update(self, load: Load, now: float) -> frozenset[tuple[str, str]]:
        """The (cascade, tier) pairs that are busy, for `Load.busy`. An engine of which nothing is known counts 0."""
        return frozenset(
            key
            for key, (features, measure, switch) in self._switches.items()
            if switch.update(measure(features, load) or 0.0, now)
        )


def _enter_at(condition: LoadCondition) -> float:
    bounds = condition.kv_usage or condition.queue_wait_over_slo
    if bounds is None or bounds.at_least is None:
        raise ValueError("when_busy: the signal's condition needs at_least")
    return bounds.at_least
