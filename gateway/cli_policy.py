"""`penstock policy ...`: check a policy, and what else can be done with one before it serves."""

import argparse
from typing import Any

from gateway import (
    cli_check,
    cli_policy_calibrate,
    cli_policy_diff,
    cli_policy_eval,
    cli_policy_explain,
    cli_policy_schema,
    cli_policy_simulate,
    cli_policy_test,
)

_COMMANDS = (
    cli_check,
    cli_policy_calibrate,
    cli_policy_diff,
    cli_policy_eval,
    cli_policy_explain,
    cli_policy_schema,
    cli_policy_simulate,
    cli_policy_test,
)


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Declare the commands."""
    policy = commands.add_parser("policy", help="check policies, and see what they decide")
    inner = policy.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_to(inner)
