"""`penstock engine quantize`: write a model directory with quantized weights."""

import argparse
from pathlib import Path
from typing import Any

from gateway.cli.terminal import say
from gateway.errors import CliError


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("quantize", help="write a copy of a model with weights of 8 or 4 bits, for the CPU")
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="a folder with config.json and weights")
    parser.add_argument("--to", choices=("int8", "int4"), required=True, help="type of the weights")
    parser.add_argument("--group", type=int, metavar="INPUTS", help="int4: number of inputs that share a scale (64)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder, new or empty")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the model and print its size before and after."""
    if arguments.group is not None and (arguments.to != "int4" or arguments.group < 2 or arguments.group % 2):
        raise CliError("--group must be an even number, and is for int4 only", 2)
    from engine.quantization.convert import quantize_model
    from engine.quantization.scheme import scheme_of

    scheme = scheme_of(arguments.to, arguments.group)
    summary = quantize_model(arguments.model, arguments.out, scheme, say)
    before, after = summary.bytes_before, summary.bytes_after
    print(
        f"{arguments.out}: {summary.matrices} matrices in {scheme}, {before / 1e6:.1f} MB became {after / 1e6:.1f} MB "
        f"({100 * after / before:.0f} %)"
    )
    return 0
