"""`penstock engine bench`: how fast a model runs on this machine, without the gateway."""

import argparse
from pathlib import Path
from typing import Any

import msgspec

from engine.threads import prepare_environment
from gateway.cli import profile, quantize
from gateway.cli.terminal import say
from gateway.errors import CliError


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    engine = commands.add_parser("engine", help="benchmark, profile or quantize a model")
    inner = engine.add_subparsers(title="commands", metavar="COMMAND", required=True)
    bench = inner.add_parser("bench", help="measure tokens a second, TTFT and ITL for 1 and 16 streams and a mix of 32")
    bench.add_argument("model", type=Path, metavar="MODEL_DIR", help="a folder with config.json and weights")
    bench.add_argument("--threads", type=int, default=1, help="threads of the engine (%(default)s)")
    bench.add_argument("--quantization", choices=("int8", "int4"), help="quantize the weights on load")
    bench.add_argument("--json", action="store_true", help="print JSON")
    bench.set_defaults(run=run)
    profile.add_to(inner)
    quantize.add_to(inner)


def run(arguments: argparse.Namespace) -> int:
    if arguments.threads < 1:
        raise CliError("--threads must be at least 1", 2)
    if not (arguments.model / "config.json").is_file():
        raise CliError(f"there is no model in {arguments.model}: a config.json is missing")
    prepare_environment()
    from engine.bench import run_bench

    overrides = {"quantization": arguments.quantization}
    report = run_bench(arguments.model, threads=arguments.threads, overrides=overrides, progress=say)
    print(msgspec.json.encode(report).decode() if arguments.json else report.table())
    return 0
