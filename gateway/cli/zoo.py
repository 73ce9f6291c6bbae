"""`penstock zoo`: train or evaluate the embedded models."""

import argparse
from pathlib import Path
from typing import Any

import msgspec

from config.model.settings import KVSettings
from engine.threads import prepare_environment
from gateway.cli.terminal import say
from gateway.errors import CliError

_NAMES = ("small", "large")


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    zoo = commands.add_parser("zoo", help="train or evaluate the embedded models").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    train = zoo.add_parser(
        "train", help="train the embedded models with fixed seeds; takes tens of minutes on two cores"
    )
    train.add_argument("which", nargs="*", metavar="NAME", help="small or large (default: both)")
    train.add_argument("--out", type=Path, help="output folder (default: the source tree)")
    train.set_defaults(run=run_train)
    evaluate = zoo.add_parser("eval", help="measure the share of right answers on held-out questions")
    evaluate.add_argument(
        "--models", type=Path, metavar="DIR", help="a folder with `small` and `large` (default: the embedded models)"
    )
    evaluate.add_argument("--questions", type=int, default=2000, help="number of questions (%(default)s)")
    evaluate.add_argument("--seed", type=int, default=0, help="seed of the questions (%(default)s)")
    evaluate.add_argument(
        "--kv-dtype", choices=["auto", "float32", "bfloat16", "int8"], default="auto", help="data type of the KV cache"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(run=run_eval)


def run_train(arguments: argparse.Namespace) -> int:
    """Train, with a line of progress every few seconds."""
    prepare_environment(alone=True)
    from engine.zoo.train import MODELS, train_zoo

    for name in arguments.which:
        if name not in _NAMES:
            raise CliError(f"there is no embedded model '{name}': it must be small or large", 2)
    train_zoo(arguments.out or MODELS, arguments.which or _NAMES, say)
    return 0


def run_eval(arguments: argparse.Namespace) -> int:
    if arguments.questions < 1:
        raise CliError("--questions must be at least 1", 2)
    prepare_environment()
    from engine.zoo.evaluate import evaluate_zoo
    from engine.zoo.train import MODELS

    models = arguments.models or MODELS
    for name in _NAMES:
        if not (models / name / "config.json").is_file():
            raise CliError(f"there is no model in {models / name}: train one with `penstock zoo train`")
    report = evaluate_zoo(models, arguments.questions, arguments.seed, say, KVSettings(dtype=arguments.kv_dtype))
    print(msgspec.json.encode(report).decode() if arguments.json else report.table())
    return 0
