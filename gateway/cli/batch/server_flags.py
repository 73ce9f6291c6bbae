"""The flags of all commands that ask a server."""

import argparse

from gateway.cli.batch.client import BatchClient

_URL = "http://127.0.0.1:8080"


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=_URL, help="the server's address (default: %(default)s)")
    parser.add_argument("--key-env", metavar="NAME", help="the environment variable with the API key")


def client_of(arguments: argparse.Namespace) -> BatchClient:
    """Raises CliError."""
    return BatchClient(arguments.url, arguments.key_env)
