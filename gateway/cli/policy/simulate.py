"""`penstock policy simulate`: replay a recorded trace through one or two policies on a virtual clock."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from config.load import load_settings
from config.model.bounds import Bound
from config.model.settings import Settings
from config.model.table import Seconds
from config.model.units import parse_duration
from config.profiles import embedded_profile
from gateway.cli.policy.number_flag import AT_LEAST_1, SEED, real, whole
from gateway.cli.terminal import check_writable, say, write_file
from gateway.errors import CliError
from gateway.profiling.profile import BadProfile, UpstreamProfile, read_profile
from gateway.simulation.compare import simulate
from gateway.simulation.draws import UnknownMargins
from gateway.simulation.table import table
from policies.records.trace import BadTrace, TraceRequest, read_trace

_SPEED = Bound(1e-6, 1e6)
_SECONDS = Bound(0, 1e12, above=True)


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("simulate", help="replay recorded traffic through one or two policies")
    add = parser.add_argument
    add(
        "trace",
        type=Path,
        metavar="TRACE",
        help="Azure CSV, Mooncake JSONL or a recording of `penstock serve --record`",
    )
    add("--config", type=Path, metavar="A", help="the policy (default: the embedded one)")
    add("--against", type=Path, metavar="B", help="a second policy, with the same trace and random numbers")
    add("--profile", type=Path, metavar="P", required=True, help="file from `penstock engine profile`")
    add("--seed", type=whole(SEED), default=0, help="seed of all random numbers (%(default)s)")
    add("--speed", type=real(_SPEED), default=1.0, metavar="X", help="speed arrivals up by a factor")
    add("--limit", type=whole(AT_LEAST_1), metavar="N", help="only the first N requests")
    add("--seconds", type=real(_SECONDS), metavar="S", help="only requests of the first S seconds")
    add(
        "--max-tokens",
        type=whole(AT_LEAST_1),
        default=0,
        metavar="N",
        help="max_tokens of requests without a recorded one",
    )
    add(
        "--escalate",
        action="append",
        default=[],
        metavar="CASCADE=SHARE",
        help="share of answers that escalate, if neither trace nor calibration says",
    )
    add(
        "--upstream",
        action="append",
        default=[],
        metavar="NAME=TTFT,ITL",
        help="speed of an upstream, such as cloud=600ms,25ms; an upstream without this option refuses all requests",
    )
    add("--html", type=Path, metavar="OUT", help="also write a page with plots")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.html is not None:
        check_writable(arguments.html)
    policies: dict[str, Settings] = {}
    for path in (arguments.config or embedded_profile(), arguments.against):
        if path is not None:
            policies[path.stem if path.stem not in policies else f"{path.stem} (B)"] = load_settings(path)
    try:
        trace = _part(read_trace(arguments.trace), arguments)
        profile = read_profile(arguments.profile)
        known = {name for settings in policies.values() for name in settings.upstreams}
        stated = _upstreams(arguments.upstream, known)
        profile = msgspec.structs.replace(profile, upstreams=profile.upstreams | stated)
        comparison = simulate(
            policies,
            profile,
            trace,
            trace_name=arguments.trace.name,
            profile_name=f"{arguments.profile.name} ({profile.machine})",
            seed=arguments.seed,
            speed=arguments.speed,
            shares=_shares(arguments.escalate, {name for settings in policies.values() for name in settings.cascades}),
            progress=say,
        )
    except (BadTrace, BadProfile, UnknownMargins) as error:
        raise CliError(str(error), 2) from None
    if arguments.html is not None:
        from gateway.simulation.page import page

        write_file(arguments.html, page(comparison).encode())
        say(f"wrote {arguments.html}")
    if arguments.json:
        print(msgspec.json.encode(comparison, order="deterministic").decode())
    else:
        print(table(comparison))
    return 0


def _part(trace: tuple[TraceRequest, ...], arguments: argparse.Namespace) -> tuple[TraceRequest, ...]:
    if arguments.limit is not None:
        trace = trace[: arguments.limit]
    if arguments.seconds is not None:
        trace = tuple([request for request in trace if request.at <= arguments.seconds])
    if not trace:
        raise CliError("no requests are left after --limit and --seconds", 2)
    if arguments.max_tokens:
        limited = partial(msgspec.structs.replace, max_tokens=arguments.max_tokens)
        trace = tuple([request if request.max_tokens else limited(request) for request in trace])
    return trace


def _shares(given: list[str], known: set[str]) -> dict[str, float]:
    shares = {}
    for word in given:
        name, _, share = word.partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            shares[name] = -1.0
        if not 0 <= shares[name] <= 1:
            raise CliError(f"--escalate {word}: expected CASCADE=SHARE with a share of 0 to 1, such as thrifty=0.25", 2)
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise CliError(f"--escalate {word}: there is no cascade '{name}'; the policies have: {names}", 2)
    return shares


def _upstreams(given: list[str], known: set[str]) -> dict[str, UpstreamProfile]:
    profiles = {}
    for word in given:
        name, _, times = word.partition("=")
        try:
            ttft, itl = (parse_duration(time.strip()) for time in times.split(","))
        except ValueError:
            ttft = itl = Seconds(0)
        if not (ttft > 0 and itl > 0):
            raise CliError(f"--upstream {word}: expected NAME=TTFT,ITL, such as cloud=600ms,25ms", 2)
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise CliError(f"--upstream {word}: there is no upstream '{name}'; the policies have: {names}", 2)
        profiles[name] = UpstreamProfile(ttft_s=float(ttft), itl_s=float(itl))
    return profiles
