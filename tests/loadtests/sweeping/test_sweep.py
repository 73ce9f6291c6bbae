"""A whole sweep, with runs that are made of numbers."""

import math
from random import Random

import msgspec
import pytest

from loadtests.model.errors import RunError
from loadtests.model.run_record import Measures, RunMachine, RunVerdict, RunWindow
from loadtests.model.scenario import Scenario, SloSettings
from loadtests.report.sweep_page import headline
from loadtests.sweeping.sweep import Sweep, SweepProgress, SweepSettings
from loadtests.sweeping.sweep_record import SweepRecord
from tests.loadtests.synthetic_runs import SCENARIO, SyntheticRequest, synthetic_record

_MACHINE = RunMachine("here", "a CPU", 2, "Linux", "3.11")
SLOS = msgspec.structs.replace(SCENARIO, slo=SloSettings(ttft=0.5))


class QueueServer:
    """M/M/1: one server that takes about `service_s` for each request, one after the other; arrivals are Poisson."""

    def __init__(self, service_s: float) -> None:
        self.service_s = service_s
        self.asked: list[Scenario] = []

    async def run(self, scenario: Scenario):
        """A record with counts, and no more than a few rows: a queue has to be watched for long."""
        self.asked.append(scenario)
        rng = Random(scenario.seed)
        at, free = 0.0, 0.0
        record = synthetic_record([SyntheticRequest(at=29.0, ttft=0.6)], scenario)
        whole, windows = Measures(), {}
        while (at := at + rng.expovariate(scenario.arrivals.rate)) < scenario.duration:
            free = max(at, free) + rng.expovariate(1 / self.service_s)
            window = windows.setdefault(int(at), RunWindow(begins_s=float(int(at)), measures=Measures()))
            for measures in (window.measures, whole) if at >= record.header.warm_up_s else (window.measures,):
                measures.requests += 1
                measures.good += free - at <= scenario.slo.ttft
        return msgspec.structs.replace(record, totals=whole, windows=tuple(windows.values()))


async def sweep(
    run, shown: list[SweepProgress] | None = None, *, scenario: Scenario = SLOS, **settings: float
) -> SweepRecord:
    chosen = msgspec.structs.replace(SweepSettings(first=5.0, lowest=0.1, highest=500.0), **settings)
    show = (shown if shown is not None else []).append
    return await Sweep(scenario, chosen, run, show, version="0", machine=_MACHINE).run()


@pytest.mark.parametrize("seed", [1, 100, 200, 300, 400])
async def test_five_sweeps_of_a_queue_agree_with_its_formula(seed: int) -> None:
    """95 % are within 0.5 s at mu - ln(20) / 0.5 s."""
    server, shown = QueueServer(0.02), []
    found = await sweep(server.run, shown, scenario=msgspec.structs.replace(SLOS, duration=200.0, seed=seed))
    assert found.outcome == "found"
    assert found.rate == pytest.approx(50 - math.log(20) / 0.5, rel=0.05)
    assert found.first_broken == "ttft"
    assert len({scenario.seed for scenario in server.asked}) == len(server.asked)
    assert [progress.number for progress in shown if progress.probe is None] == list(range(1, len(server.asked) + 1))


async def test_what_holds_everywhere_and_nowhere() -> None:
    assert (await sweep(QueueServer(1e-6).run, highest=20.0)).outcome == "above"
    below = await sweep(QueueServer(20.0).run, lowest=1.0)
    assert (below.outcome, below.rate, below.high) == ("below", 0.0, 1.0)


async def test_too_few_runs_are_unsure() -> None:
    found = await sweep(QueueServer(0.02).run, most=2)
    assert (found.outcome, found.low) == ("unsure", 10.0)


async def test_a_load_tester_that_is_late_ends_it() -> None:
    async def late(scenario: Scenario):
        record = await QueueServer(0.02).run(scenario)
        return msgspec.structs.replace(record, verdict=RunVerdict(False, ("late",)))

    found = await sweep(late)
    assert (found.outcome, len(found.probes)) == ("invalid", 3)


async def test_runs_without_a_request_say_so() -> None:
    async def nothing(scenario: Scenario):
        return synthetic_record([], scenario)

    found = await sweep(nothing)
    assert (found.outcome, len(found.probes)) == ("invalid", 3)
    assert headline(found).startswith("Not valid: no request was due in the measured time")


async def test_one_late_run_is_made_again() -> None:
    server = QueueServer(0.02)

    async def run(scenario: Scenario):
        record = await server.run(scenario)
        verdict = RunVerdict(len(server.asked) != 2, ("late",))
        return msgspec.structs.replace(record, verdict=verdict)

    found = await sweep(run)
    assert found.outcome == "found"
    assert [probe.rate for probe in found.probes[1:3]] == [10.0, 10.0]


async def test_ctrl_c_keeps_what_is_known() -> None:
    server = QueueServer(0.02)

    async def run(scenario: Scenario):
        record = await server.run(scenario)
        verdict = RunVerdict(cut_short=len(server.asked) == 3)
        return msgspec.structs.replace(record, verdict=verdict)

    found = await sweep(run)
    assert (found.outcome, len(found.probes), found.rate) == ("cut_short", 2, 10.0)


async def test_a_server_that_is_gone_keeps_what_is_known() -> None:
    server = QueueServer(0.02)

    async def run(scenario: Scenario):
        if len(server.asked) == 2:
            raise RunError("no server")
        return await server.run(scenario)

    found = await sweep(run)
    assert (found.outcome, len(found.probes), found.rate, found.why) == ("broken_off", 2, 10.0, "no server")
    assert headline(found).startswith("Broken off, as a run could not be made (no server): at least 10/s")
    with pytest.raises(RunError):
        await sweep(run)
