"""A gateway with an engine that is offered more than it can serve: `python -m benchmarks.loadtests.overload`.

The embedded large model serves on one core; the load tester sends on the other, by its own schedule. First the capacity
is measured with a fixed number of clients, then the goodput at and around it, then at the overloads. Two tiers; of the
two equal tenants of the second one offers ten times as much as the other.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import trio

from benchmarks.upstream.figures import percentile
from config.model.table import Seconds
from loadtests.model.lengths import Lengths
from loadtests.model.run_record import Measures, RunRecord
from loadtests.model.scenario import Arrivals, LoadTarget, LoadTenant, RequestKind, Scenario, SloSettings
from loadtests.running.run import LoadRun
from policies.admission.keys import RANDOM_BYTES, new_key

_GATEWAY = """
schema = 1
[server]
port = 0
[ledger]
path = {ledger}
[engines.main]
model = {model}
threads = 1
max_running = 16
[models.chat]
[tiers.premium]
priority = 10
admit_by = "slo"
slo = {{ ttft = "{ttft_ms:.0f}ms", itl = "200ms" }}
[tiers.standard]
admit_by = "slo"
slo = {{ ttft = "{ttft_ms:.0f}ms", itl = "200ms" }}
[[routes]]
name = "chat"
use = {{ ladder = "only" }}
[[ladders.only]]
to = "main"
"""
_TENANT = """
[tenants.{name}]
tier = "{tier}"
[[keys]]
id = {key_id}
tenant = "{name}"
hash = {key_hash}
"""
_SHARES = {"gold": 0.1, "loud": 0.9 * 10 / 11, "quiet": 0.9 / 11}
_TIERS = {"gold": "premium", "loud": "standard", "quiet": "standard"}
_ITL = Seconds(0.5)
_CLIENTS = 24
_LATE_S = 0.05
_AROUND = (0.7, 0.85, 1.0)
"""Of the capacity: where the peak of goodput is looked for."""


@contextmanager
def gateway(ttft_s: float) -> Iterator[tuple[str, Mapping[str, str], int]]:
    """A running one on the first core: its address, the tenants' keys, its process."""
    with tempfile.TemporaryDirectory() as folder:
        model, ledger = Path("engine/zoo/models/large").resolve(), Path(folder) / "ledger.sqlite3"
        keys, text = (
            {},
            _GATEWAY.format(model=json.dumps(str(model)), ledger=json.dumps(str(ledger)), ttft_ms=1000 * ttft_s),
        )
        for name, tier in _TIERS.items():
            key = new_key(name, secrets.token_bytes(RANDOM_BYTES), name)
            keys[name] = key.raw
            found = key.settings
            text += _TENANT.format(name=name, tier=tier, key_id=json.dumps(found.id), key_hash=json.dumps(found.hash))
        file = Path(folder) / "service.toml"
        file.write_text(text)
        words = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(file), "--log-level", "error"]
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            words = ["taskset", "-c", str(cores[0]), *words]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith(b"serving "):
                        yield line.split()[-1].decode(), keys, process.pid
                        break
            finally:
                process.terminate()


def scenario_of(url: str, arrivals: Arrivals, seconds: float, ttft_s: float) -> Scenario:
    return Scenario(
        schema=1,
        duration=Seconds(seconds),
        warm_up=Seconds(seconds / 4),
        target=LoadTarget(url=url, model="chat"),
        arrivals=arrivals,
        mix=tuple(
            RequestKind(
                name=name,
                tenant=name,
                weight=share,
                prompt=Lengths(median=40.0, p95=120.0, at_most=160),
                output=Lengths(median=50.0, p95=120.0, at_most=200),
                ignore_eos=True,
            )
            for name, share in _SHARES.items()
        ),
        tenants={name: LoadTenant(tier=tier) for name, tier in _TIERS.items()},
        slo=SloSettings(ttft=Seconds(ttft_s), itl=_ITL),
        rows=1_000_000,
    )


def row(name: str, record: RunRecord, peak: float, resident_mb: float) -> str:
    seconds, groups = record.header.measured_s, record.groups
    tenants = {each: groups.get("tenant", {}).get(each, Measures()) for each in _TIERS}
    goodput = record.totals.delivered.good / seconds
    refused = [each.end_s - each.intended_s for each in record.rows if each.outcome == "shed" and each.measured]
    # The quiet tenant may have all that it asks for up to half of what the two get.
    served = sum(tenants[each].good for each in ("loud", "quiet"))
    quiet = max(min(tenants["quiet"].requests, served / 2), 1)
    loud = max(served - quiet, 1)
    parts = [tenants["quiet"].good / quiet, tenants["loud"].good / loud]
    jain = sum(parts) ** 2 / (2 * sum(part**2 for part in parts)) if served else 0.0
    ttft = tenants["gold"].latencies.ttft
    cells = [
        name,
        f"{record.totals.requests / seconds:.1f}",
        f"{goodput:.1f}",
        f"{100 * goodput / peak:.0f}" if peak else "",
        f"{ttft.percentile(50):.2f} / {ttft.percentile(99):.2f}",
        f"{100 * tenants['gold'].good / max(tenants['gold'].requests, 1):.0f}",
        f"{100 * tenants['quiet'].good / quiet:.0f}",
        f"{jain:.2f}",
        f"{1000 * percentile(refused, 0.5):.0f} / {1000 * percentile(refused, 0.99):.0f}" if refused else "none",
        f"{100 * sum(each > _LATE_S for each in refused) / len(refused):.1f}" if refused else "",
        str(record.totals.failed),
        f"{resident_mb:.0f}",
        "yes" if record.verdict.valid else "no",
    ]
    return "| " + " | ".join(cells) + " |"


_HEAD = (
    "offered",
    "1/s",
    "good, 1/s",
    "of the peak, %",
    "premium TTFT p50 / p99, s",
    "premium good, %",
    "quiet served of its share, %",
    "Jain",
    "refused after, p50 / p99, ms",
    "after 50 ms, %",
    "failed",
    "resident, MB",
    "valid",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loadtests.overload", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="of each run")
    parser.add_argument("--overloads", type=float, nargs="*", default=[2.0, 5.0], help="times the capacity")
    parser.add_argument("--slo", type=float, default=0.5, help="seconds to the first token")
    arguments = parser.parse_args()
    with gateway(arguments.slo) as (url, keys, process):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

        def run(arrivals: Arrivals) -> RunRecord:
            scenario = scenario_of(url, arrivals, arguments.seconds, arguments.slo)
            return trio.run(LoadRun(scenario, keys, version="").run)

        record = run(Arrivals(kind="closed", clients=_CLIENTS))
        capacity = record.totals.ok / record.header.measured_s
        print(f"capacity: {capacity:.1f} answers/s, with {_CLIENTS} clients that ask again at once\n")
        print("| " + " | ".join(_HEAD) + " |\n" + "| --- " * len(_HEAD) + "|", flush=True)
        peak = 0.0
        for times in sorted({*_AROUND, *arguments.overloads}):
            record = run(Arrivals(kind="poisson", rate=times * capacity))
            peak = max(peak, record.totals.delivered.good / record.header.measured_s)
            print(row(f"{times:g} × capacity", record, peak, _resident_mb(process)), flush=True)


def _resident_mb(process: int) -> float:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
