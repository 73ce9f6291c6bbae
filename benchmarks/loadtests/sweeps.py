"""Several sweeps of one server, and how far their rates are apart: `python -m benchmarks.loadtests.sweeps`.

Without --url it serves the embedded models itself, on all cores but the last, which is the load tester's. Each sweep
has other seeds, and so other requests at other times. Its record and page stay in --keep. Another OpenAI-compatible
server is tested by the same scenario with --url and --model.
"""

import argparse
import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.cores import apart_from_this
from loadtests.sweeping.sweep_record import SweepRecord, read_sweep

_WANTED = 0.05
"""Five sweeps of the same server are to agree within it, on a quiet machine."""
_SEEDS_APART = 1000
"""More than one sweep has runs, each of which has the next seed."""
_SERVES = re.compile(r"serving .* on (http://\S+)\n")


class SweepSpread(msgspec.Struct, frozen=True):
    """How far the rates of several sweeps are apart."""

    mean: float
    low: float
    high: float

    @property
    def share(self) -> float:
        """Half of the range, as a share of its middle: all are within ± so much of that."""
        return (self.high - self.low) / (self.high + self.low) if self.high else 0.0


def spread_of(sweeps: Sequence[SweepRecord]) -> SweepSpread | None:
    """None: not every sweep found its rate."""
    rates = [sweep.rate for sweep in sweeps if sweep.outcome in {"found", "unsure"}]
    if not rates or len(rates) < len(sweeps):
        return None
    return SweepSpread(sum(rates) / len(rates), min(rates), max(rates))


def swept(url: str, seed: int, arguments: argparse.Namespace) -> SweepRecord:
    """One sweep, by the command that a user gives."""
    out = arguments.keep / f"sweep-{seed}.json"
    words = [sys.executable, "-m", "gateway.cli.main", "load", "sweep"]
    if arguments.scenario is not None:
        words.append(str(arguments.scenario))
    words += ["--url", url, "--seed", str(seed), "--out", str(out), "--html", str(out.with_suffix(".html"))]
    for flag in ("model", "rate", "for", "slo", "key_env", "workers", "most_runs", "within"):
        value = getattr(arguments, flag)
        words += [] if value is None else [f"--{flag.replace('_', '-')}", str(value)]
    ended = subprocess.run(words, check=False)
    if ended.returncode in {2, 130} or not out.exists():
        raise SystemExit(ended.returncode)
    return read_sweep(out)


@contextlib.contextmanager
def _server(arguments: argparse.Namespace) -> Iterator[str]:
    """The address of the server, started if none is given."""
    if arguments.url is not None:
        yield arguments.url
        return
    if arguments.fixed:
        command = [sys.executable, "-m", "benchmarks.loadtests.fixed_streams", "0.02"]
    else:
        command = [sys.executable, "-u", "-m", "gateway.cli.main", "serve", "--port", "0"]
        command += [] if arguments.config is None else ["--config", str(arguments.config)]
    log = (arguments.keep / "server.log").open("wb")
    with apart_from_this():
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    with log, server:
        try:
            assert server.stdout is not None
            yield _address(server.stdout) or _not_served(arguments.keep / "server.log")
        finally:
            server.terminate()


def _address(lines: Iterator[str]) -> str:
    """Where it says that it serves; "": it ended first."""
    for line in lines:
        if match := _SERVES.search(line):
            return match[1]
        if line.strip().isdigit():
            return f"http://127.0.0.1:{int(line)}"
    return ""


def _not_served(log: Path) -> str:
    raise SystemExit(f"the server ended before it served: see {log}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loadtests.sweeps", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("scenario", nargs="?", type=Path, help="its target, rate and SLOs give way to the flags")
    add("--sweeps", type=int, default=5)
    add("--seed", type=int, default=1, help="of the first sweep")
    add("--url", help="a server that runs already")
    add("--config", type=Path, help="of the server that is started (the embedded models)")
    add("--fixed", action="store_true", help="start a server of fixed bytes instead, to try this out")
    add("--keep", type=Path, default=Path("sweeps"), help="folder for records, pages and the server's log")
    for flag, value, words in (
        ("--model", None, "what requests ask for"),
        ("--rate", "2", "the first rate"),
        ("--for", "60s", "of each run"),
        ("--slo", "ttft=500ms,tpot=60ms", "what a good request meets"),
        ("--key-env", None, "the environment variable with the API key"),
        ("--workers", None, "of the load tester"),
        ("--most-runs", None, "of a sweep"),
        ("--within", None, "how exact a rate is to be"),
    ):
        add(flag, default=value, help=words)
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    sweeps: list[SweepRecord] = []
    with _server(arguments) as url:
        for place in range(arguments.sweeps):
            sweeps.append(swept(url, arguments.seed + place * _SEEDS_APART, arguments))
    print_all(sweeps)


def print_all(sweeps: Sequence[SweepRecord]) -> None:
    """A row for each sweep, and how far they are apart."""
    print("| seed | highest rate | with 80 % between | outcome | first to break | runs |")
    print("| ---: | ---: | --- | --- | --- | ---: |")
    for sweep in sweeps:
        between = f"{sweep.low:.3g} and {sweep.high:.3g}"
        words = (sweep.outcome, sweep.first_broken or "–", str(len(sweep.probes)))
        print(f"| {sweep.scenario.seed} | {sweep.rate:.3g}/s | {between} | {' | '.join(words)} |")
    spread = spread_of(sweeps)
    if spread is None:
        print("not every sweep found its rate: how far they are apart cannot be said")
        return
    verdict = "within" if spread.share <= _WANTED else "NOT within"
    print(f"{spread.mean:.3g}/s ± {100 * spread.share:.1f} %: {verdict} ± {100 * _WANTED:g} %")


if __name__ == "__main__":
    main()
