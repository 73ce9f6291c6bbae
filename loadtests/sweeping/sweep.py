"""A sweep: runs at one rate after the other until the highest rate is known at which the SLOs hold."""

import datetime as dt
from collections.abc import Awaitable, Callable

import msgspec

from loadtests.model.errors import RunError
from loadtests.model.run_record import RunMachine, RunRecord
from loadtests.model.scenario import Scenario
from loadtests.sweeping.probe import probe_of
from loadtests.sweeping.rate_search import RateSearch
from loadtests.sweeping.sweep_record import SweepOutcome, SweepProbe, SweepRecord

_MOST_INVALID = 3
"""Runs at one rate that were not valid, one after the other: a moment's disturbance is over at the third."""


class SweepSettings(msgspec.Struct, frozen=True):
    """What is searched."""

    first: float
    """The first rate that is tried."""
    lowest: float
    highest: float
    target: float = 0.95
    """The share of requests that must be good."""
    tolerance: float = 0.04
    most: int = 16


class SweepProgress(msgspec.Struct, frozen=True):
    """Before a run: what comes. After it: `probe`."""

    number: int
    left: int
    """Runs that are likely to follow, this one included."""
    rate: float
    probe: SweepProbe | None = None


class Sweep:
    """`run` it once."""

    def __init__(
        self,
        scenario: Scenario,
        settings: SweepSettings,
        run_once: Callable[[Scenario], Awaitable[RunRecord]],
        show: Callable[[SweepProgress], None],
        *,
        version: str,
        machine: RunMachine,
    ) -> None:
        self._scenario = scenario
        self._settings = settings
        self._run_once = run_once
        self._show = show
        self._version = version
        self._machine = machine
        self._probes: list[SweepProbe] = []
        self._search = RateSearch(
            settings.first,
            settings.lowest,
            settings.highest,
            target=settings.target,
            tolerance=settings.tolerance,
            most=settings.most,
        )
        self._stopped: SweepOutcome | None = None
        self._why = ""

    async def run(self) -> SweepRecord:
        """Until the rate is found, the most runs were made, or a run was cut short or could not be made.

        Raises RunError if not even the first run could be made.
        """
        started_at = dt.datetime.now(dt.UTC)
        invalid = 0
        while self._stopped is None and (rate := self._search.next_rate()) is not None:
            left = self._search.expected_left()
            self._show(SweepProgress(len(self._probes) + 1, left, rate))
            try:
                record = await self._run_once(self._at(rate))
            except RunError as error:
                if not self._probes:
                    raise
                self._stopped, self._why = "broken_off", str(error)
                break
            if record.verdict.cut_short:
                self._stopped = "cut_short"
                break
            probe = probe_of(record, rate, self._settings.target)
            self._probes.append(probe)
            self._show(SweepProgress(len(self._probes), left - 1, rate, probe))
            if probe.valid:
                invalid = 0
                self._search.take(rate, probe.share, probe.error)
                continue
            invalid += 1
            if invalid >= _MOST_INVALID:
                self._stopped = "invalid"
        return self._record(started_at)

    def _at(self, rate: float) -> Scenario:
        """The scenario at this rate. Each run has prompts of its own, so that no cache knows them from the last run."""
        scenario = self._scenario
        arrivals = msgspec.structs.replace(scenario.arrivals, rate=rate, phases=())
        return msgspec.structs.replace(scenario, arrivals=arrivals, seed=scenario.seed + len(self._probes))

    def _record(self, started_at: dt.datetime) -> SweepRecord:
        settings, search = self._settings, self._search
        found = search.found()
        outcome = self._outcome()
        rate, low, high = found.rate, found.low, found.high
        if not search.is_bracketed:
            valid = [probe for probe in self._probes if probe.valid]
            rate = low = max([probe.rate for probe in valid if probe.share >= settings.target], default=0.0)
            broken = [probe.rate for probe in valid if probe.share < settings.target]
            high = min(broken, default=settings.highest)
        return SweepRecord(
            penstock=self._version,
            started_at=started_at.isoformat(timespec="seconds"),
            scenario=self._scenario,
            machine=self._machine,
            target=settings.target,
            outcome=outcome,
            rate=rate,
            low=low,
            high=high,
            first_broken=first_broken(self._probes, rate, settings.target),
            probes=tuple(self._probes),
            why=self._why,
        )

    def _outcome(self) -> SweepOutcome:
        if self._stopped is not None:
            return self._stopped
        if self._search.never_broke:
            return "above"
        if self._search.never_held:
            return "below"
        return "found" if self._search.is_found else "unsure"


def first_broken(probes: list[SweepProbe], rate: float, target: float) -> str:
    """Which SLO most requests missed at the lowest rate that was too high; "": none was too high."""
    broken = [probe for probe in probes if probe.valid and probe.share < target and probe.missed]
    if not broken:
        return ""
    nearest = min(broken, key=lambda probe: (abs(probe.rate - rate), probe.rate))
    return max(nearest.missed, key=lambda name: nearest.missed[name])
