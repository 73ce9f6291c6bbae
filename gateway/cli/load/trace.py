"""Recorded traffic as the schedule of a load test."""

from pathlib import Path

from gateway.errors import CliError
from loadtests.model.scenario import Scenario
from loadtests.model.scenario_check import MOST_REQUESTS
from loadtests.model.timing import duration_of
from loadtests.schedule.traced_request import TracedRequest
from policies.records.trace import BadTrace, TraceRequest, read_trace


def traced_requests(scenario: Scenario) -> tuple[TracedRequest, ...]:
    """Those within the duration of the run; () if the scenario has no trace. Raises CliError."""
    arrivals = scenario.arrivals
    if arrivals.kind != "trace" or arrivals.trace is None:
        return ()
    end_s = duration_of(scenario)
    found = [
        TracedRequest(
            at_s=each.at / arrivals.speed,
            prompt_tokens=min(each.prompt_tokens, arrivals.longest_prompt),
            output_tokens=min(each.output_tokens, arrivals.longest_output),
            prefix=each.prefix,
            prefix_block=each.prefix_block,
            tenant=each.tenant,
        )
        for each in recorded(arrivals.trace)
        if each.at / arrivals.speed < end_s
    ]
    if len(found) > MOST_REQUESTS:
        raise CliError(f"{arrivals.trace} has {len(found):,} requests in this time; a run has {MOST_REQUESTS:,}", 2)
    return tuple(found)


def recorded(path: Path) -> tuple[TraceRequest, ...]:
    """All requests of a trace. Raises CliError, with every bad line."""
    try:
        return read_trace(path)
    except BadTrace as error:
        raise CliError(str(error), 2) from None
