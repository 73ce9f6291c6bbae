"""The flags of `penstock load` that make a scenario, or change the one of a file."""

import argparse
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import msgspec.inspect

from config.model.bounds import bound_of
from config.model.table import Seconds, Table
from config.model.units import parse_duration
from config.model.upstreams import SecretSource
from config.problems.errors import Problem
from config.problems.problems import Problems
from gateway.errors import CliError
from loadtests.model.lengths import Lengths
from loadtests.model.scenario import Arrivals, RequestKind, Scenario, SloSettings
from loadtests.model.scenario_check import check_scenario
from loadtests.model.scenario_file import LoadedScenario, load_scenario

_Table = TypeVar("_Table", bound=Table)
_SLOS = ("ttft", "itl", "tpot", "e2e")


def add_scenario_flags(parser: argparse.ArgumentParser) -> None:
    """The scenario's file, and the flags."""
    parser.add_argument(
        "scenario", nargs="?", type=Path, metavar="SCENARIO", help="a TOML file; without it the flags are all"
    )
    add_flags(parser)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Those that change a scenario."""
    add = parser.add_argument
    add("--url", help="the server, with or without /v1 (http://127.0.0.1:8080)")
    add("--model", help="the model to ask for (penstock)")
    add("--rate", type=float, metavar="N", help="requests a second in an open loop (5)")
    add("--arrivals", choices=("poisson", "constant", "gamma"), help="how they are spread (poisson)")
    add("--clients", type=int, metavar="N", help="a closed loop instead: so many clients that wait for their answers")
    add("--max-in-flight", type=int, metavar="N", help="requests wait for a place beyond so many; the wait counts")
    add("--for", dest="duration", metavar="TIME", help="how long, such as 30s or 5m (30s)")
    add("--warm-up", metavar="TIME", help="not in the totals (a tenth of the run, at most 30s)")
    add("--prompt", type=int, metavar="TOKENS", help="every prompt about so long")
    add("--output", type=int, metavar="TOKENS", help="max_tokens of every request")
    add("--transport", choices=("sse", "websocket", "whole"), help="how answers come (sse)")
    add("--slo", metavar="LIST", help="what a good request meets, such as ttft=500ms,itl=60ms,tpot=40ms,e2e=10s")
    add("--seed", type=int, metavar="N", help="the same seed gives the same requests at the same times (1)")
    add("--workers", type=int, metavar="N", help="processes that share the requests (1)")
    add("--pid", action="append", default=[], metavar="NAME=PID", help="a process that faults of the scenario are for")
    add("--key", metavar="KEY", help="the API key; others can see it in the list of processes")
    add("--key-env", metavar="NAME", help="the environment variable with the API key")


def scenario_of(arguments: argparse.Namespace, arrivals: Arrivals | None = None) -> LoadedScenario:
    """The scenario of the file with the flags applied. `arrivals`: in place of the file's.

    Raises ConfigError, CliError.
    """
    if arguments.scenario is not None:
        loaded = load_scenario(arguments.scenario)
    else:
        loaded = LoadedScenario(Scenario(schema=1, arrivals=Arrivals(rate=5.0)))
    if arrivals is not None:
        loaded = msgspec.structs.replace(loaded, scenario=msgspec.structs.replace(loaded.scenario, arrivals=arrivals))
    changed = _changed(loaded.scenario, arguments)
    problems = Problems.unplaced()
    check_scenario(changed, problems)
    if problems.has_errors():
        raise CliError("\n".join(_words(problem) for problem in problems if problem.severity == "error"), 2)
    return LoadedScenario(changed, loaded.warnings)


def keys_of(scenario: Scenario, arguments: argparse.Namespace) -> dict[str, str]:
    """API keys by tenant, "" for requests without one. Raises CliError."""
    sources = {name: tenant.key for name, tenant in scenario.tenants.items()} | {"": scenario.target.key}
    keys = {name: _secret(source) for name, source in sources.items() if source is not None}
    if arguments.key is not None:
        keys[""] = _checked(arguments.key, "--key")
    return keys


def fault_keys_of(scenario: Scenario) -> dict[int, str]:
    """Keys that faults send, by their places. Raises CliError."""
    return {place: _secret(fault.key) for place, fault in enumerate(scenario.faults) if fault.key is not None}


def pids_of(arguments: argparse.Namespace) -> dict[str, int]:
    """Processes that were named. Raises CliError."""
    pids: dict[str, int] = {}
    for text in arguments.pid:
        name, _, pid = text.partition("=")
        if not name or not (pid.isascii() and pid.isdigit()):
            raise CliError(f"--pid {text}: expected NAME=PID, such as server=4711", 2)
        pids[name] = int(pid)
    return pids


def _changed(scenario: Scenario, arguments: argparse.Namespace) -> Scenario:
    target: dict[str, Any] = {
        "url": arguments.url,
        "model": arguments.model,
        "key": None if arguments.key_env is None else SecretSource(env=arguments.key_env),
    }
    whole: dict[str, Any] = {
        "duration": _time(arguments.duration, "--for"),
        "warm_up": _time(arguments.warm_up, "--warm-up"),
        "seed": arguments.seed,
        "workers": arguments.workers,
        "slo": None if arguments.slo is None else _slo(arguments.slo),
        "target": _with(scenario.target, target),
        "arrivals": _arrivals(scenario.arrivals, arguments),
        "mix": _mix(scenario.mix, arguments),
    }
    if whole["duration"] is not None and whole["arrivals"].phases:
        raise CliError("--for cannot be combined with phases, which have their own durations", 2)
    if arguments.slo is not None:
        whole["tier_slo"] = {}
    for name, low in (("seed", 0), ("workers", 1), ("clients", 1), ("max_in_flight", 1), ("prompt", 1), ("output", 1)):
        if (value := getattr(arguments, name)) is not None and value < low:
            raise CliError(f"--{name.replace('_', '-')} must be at least {low}", 2)
    if whole["duration"] == 0:
        raise CliError("--for must be above 0", 2)
    return _within_bounds(_with(scenario, whole))


def _within_bounds(table: _Table) -> _Table:
    """Bounds of numbers are in the types of fields, and a flag's value did not come through them. Raises CliError."""
    for field in msgspec.inspect.type_info(type(table)).fields:  # type: ignore[attr-defined]
        value, bound = getattr(table, field.name), bound_of(field.type)
        if bound is not None and isinstance(value, int | float) and not bound.allows(value):
            raise CliError(f"{field.name}: {value:g} is not allowed; expected {bound}", 2)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Table):
                _within_bounds(each)
    return table


def _words(problem: Problem) -> str:
    """Without a place: values of flags are in no file."""
    return str(msgspec.structs.replace(problem, line=0)).removeprefix(f"{problem.file}: ")


def _arrivals(arrivals: Arrivals, arguments: argparse.Namespace) -> Arrivals:
    if arguments.clients is not None:
        if any(each is not None for each in (arguments.rate, arguments.arrivals, arguments.max_in_flight)):
            raise CliError("--clients is a closed loop: it has no --rate, no --arrivals and no --max-in-flight", 2)
        return Arrivals(kind="closed", clients=arguments.clients)
    if arguments.rate is not None:
        if not 0 < arguments.rate < 1e6:
            raise CliError("--rate must be above 0 and below a million", 2)
        kind = "poisson" if arrivals.kind == "closed" else arrivals.kind
        arrivals = msgspec.structs.replace(arrivals, kind=kind, clients=None, phases=(), rate=arguments.rate)
    return _with(arrivals, {"kind": arguments.arrivals, "max_in_flight": arguments.max_in_flight})


def _mix(mix: tuple[RequestKind, ...], arguments: argparse.Namespace) -> tuple[RequestKind, ...] | None:
    changes = {
        "prompt": None if arguments.prompt is None else Lengths(exactly=arguments.prompt),
        "output": None if arguments.output is None else Lengths(exactly=arguments.output),
        "transport": arguments.transport,
    }
    if not any(changes.values()):
        return None
    return tuple([_with(kind, changes) for kind in mix or (RequestKind(),)])


def _slo(text: str) -> SloSettings:
    given: dict[str, Seconds | None] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in _SLOS:
            raise CliError(f"--slo has no {name!r}: write some of {', '.join(_SLOS)}, such as ttft=500ms,itl=60ms", 2)
        given[name] = _time(value, f"--slo {name}")
    return SloSettings(**given)


def _time(text: str | None, flag: str) -> Seconds | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise CliError(f"{flag}: {error}", 2) from None


def _with(table: _Table, changes: dict[str, Any]) -> _Table:
    return msgspec.structs.replace(table, **{name: value for name, value in changes.items() if value is not None})


def _secret(source: SecretSource) -> str:
    if source.env is not None:
        value = os.environ.get(source.env)
        if value is None:
            raise CliError(f"the environment variable {source.env} is not set; it must hold the API key", 2)
        return _checked(value, f"the environment variable {source.env}")
    assert source.file is not None, "check_scenario lets exactly one of the two through"
    try:
        return _checked(source.file.read_text(encoding="ascii"), str(source.file))
    except (OSError, UnicodeDecodeError):
        raise CliError(f"{source.file} cannot be read; it must hold the API key", 2) from None


def _checked(text: str, where: str) -> str:
    key = text.strip()
    if not key or not all("!" <= character <= "~" for character in key):
        raise CliError(f"{where} holds no API key: one line of printable ASCII without spaces", 2)
    return key
