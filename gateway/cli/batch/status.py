"""`penstock batch status` and `penstock batch cancel`."""

import argparse
from typing import Any

from gateway.cli.batch.progress import line_of
from gateway.cli.batch.server_flags import add_server_flags, client_of

_LISTED = 20


def add_status(commands: "argparse._SubParsersAction[Any]") -> None:
    text = f"print how far a batch is, or the newest {_LISTED} batches"
    parser = commands.add_parser("status", help=text, description=f"{text}.".capitalize())
    parser.add_argument("batch", nargs="?", metavar="ID", help="the batch (default: the newest ones)")
    add_server_flags(parser)
    parser.set_defaults(run=status)


def add_cancel(commands: "argparse._SubParsersAction[Any]") -> None:
    text = "cancel a batch; what was answered stays in its results"
    parser = commands.add_parser("cancel", help=text, description=f"{text}.".capitalize())
    parser.add_argument("batch", metavar="ID", help="the batch")
    add_server_flags(parser)
    parser.set_defaults(run=cancel)


def status(arguments: argparse.Namespace) -> int:
    client = client_of(arguments)
    found = client.batches(_LISTED) if arguments.batch is None else [client.batch(arguments.batch)]
    for batch in found:
        print(line_of(batch))
    if not found:
        print("no batches")
    return 0


def cancel(arguments: argparse.Namespace) -> int:
    print(line_of(client_of(arguments).cancel(arguments.batch)))
    return 0
