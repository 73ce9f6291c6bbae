"""`penstock load run`: send the requests of a scenario, and say what came back."""

import argparse
import importlib.metadata
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from actors.upstream.http.address import address
from gateway.cli.load.host_part import add_part_flags, part_of_run
from gateway.cli.load.live_view import LiveView
from gateway.cli.load.result_files import check_results, write_result
from gateway.cli.load.scenario_flags import add_scenario_flags, fault_keys_of, keys_of, pids_of, scenario_of
from gateway.cli.load.summary import summary
from gateway.cli.load.trace import traced_requests
from gateway.cli.problem_text import print_problems
from gateway.errors import CliError
from loadtests.faults.fault_runner import FaultRunner
from loadtests.model.errors import RunError
from loadtests.model.record_file import encode_record
from loadtests.model.run_record import RunRecord
from loadtests.model.scenario import Scenario
from loadtests.model.scenario_file import LoadedScenario
from loadtests.running.run import HostPart, LoadRun
from loadtests.schedule.traced_request import TracedRequest

INVALID = 3
_EPILOG = """\
By default requests are sent at their times, whatever the server does (an open loop), and latencies are counted from
these intended times. Exit code 0: a valid run; 1: no request was answered, or the record could not be written; 2:
wrong usage; 3: the run is not valid, because the load tester itself was too late; 130: it was ended by Ctrl-C, and the
record says so.
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("run", help="send the requests of a scenario and measure the answers", epilog=_EPILOG)
    add_scenario_flags(parser)
    add_part_flags(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the run record, as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return run_scenario(scenario_of(arguments), arguments)


def run_scenario(loaded: LoadedScenario, arguments: argparse.Namespace) -> int:
    """One run with what is printed and written about it. Returns the exit code."""
    print_problems(loaded.warnings)
    check_results(arguments.out)
    scenario = loaded.scenario
    part = part_of_run(arguments, scenario)
    record = trio.run(carry_out, scenario, keys_of(scenario, arguments), pids_of(arguments), part)
    return ended(record, arguments.out)


def ended(record: RunRecord, out: Path | None) -> int:
    """What is printed and written at the end of a run. Returns the exit code."""
    summary(record).print()
    written = write_result(out, lambda: encode_record(record), f"the run record is in {out}")
    if record.verdict.cut_short:
        return 130
    if not record.verdict.valid:
        return INVALID
    return 0 if written and record.totals.ok + record.totals.left else 1


async def carry_out(
    scenario: Scenario, keys: dict[str, str], pids: Mapping[str, int] | None = None, part: HostPart | None = None
) -> RunRecord:
    """One run with its live view and its faults. The first Ctrl-C ends it in order, the second at once.

    `pids`: of processes that faults are for, by name. Raises CliError.
    """
    trace = traced_requests(scenario)
    fault_keys = fault_keys_of(scenario)
    try:
        async with trio.open_nursery() as nursery, FaultRunner(scenario, pids or {}, fault_keys, nursery) as faults:
            await check_server(scenario)
            return await _watched(scenario, keys, trace, faults, part or HostPart())
    except* RunError as group:
        raise CliError(str(_first(group))) from None
    except* KeyboardInterrupt:
        raise KeyboardInterrupt from None
    except* CliError as group:
        raise _first(group) from None


async def _watched(
    scenario: Scenario, keys: dict[str, str], trace: tuple[TracedRequest, ...], faults: FaultRunner, part: HostPart
) -> RunRecord:
    view = LiveView(scenario)
    version = importlib.metadata.version("penstock")
    load_run = LoadRun(scenario, keys, version=version, show=view.show, trace=trace, faults=faults, part=part)

    async def listen() -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if load_run.is_stopped:
                    raise KeyboardInterrupt
                load_run.stop()

    with view:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            record = await load_run.run()
            nursery.cancel_scope.cancel()
    return record


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of the errors, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def check_server(scenario: Scenario) -> None:
    """Raise CliError if nothing listens there."""
    where = address(scenario.target.url, "")
    try:
        with trio.fail_after(scenario.target.connect):
            stream = await trio.open_tcp_stream(where.host, where.port)
    except (OSError, trio.TooSlowError) as error:
        words = str(error) or "no connection in time"
        raise CliError(f"no server at {scenario.target.url}: {words}; start it, or give its address by --url") from None
    await stream.aclose()
