"""`penstock policy ...`: the commands that check, explain, test and simulate a policy before it serves."""

import argparse
from typing import Any

from gateway.cli import check
from gateway.cli.policy import calibrate, diff, evaluate, expectations, explain, schema, simulate

_COMMANDS = (
    check,
    calibrate,
    diff,
    evaluate,
    explain,
    schema,
    simulate,
    expectations,
)


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    policy = commands.add_parser("policy", help="check, explain, test, compare and simulate policies")
    inner = policy.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_to(inner)
