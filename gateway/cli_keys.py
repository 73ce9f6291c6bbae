"""`penstock keys new`: make an API key."""

import argparse
import re
import secrets
from typing import Any

import msgspec

from gateway.cli_errors import CliError

_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Declare the command."""
    keys = commands.add_parser("keys", help="work with API keys")
    new = keys.add_subparsers(title="commands", metavar="COMMAND", required=True).add_parser(
        "new", help="make a key: printed once, only its hash is kept"
    )
    new.add_argument("--tenant", required=True, help="to whom it belongs")
    new.add_argument("--id", help="a name for the key; without it, a random one")
    new.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the key, and the lines for the configuration."""
    from policies.keys import PREFIX, RANDOM_BYTES, hash_key, new_key

    made = new_key(arguments.tenant, secrets.token_bytes(RANDOM_BYTES))
    raw, settings = made.raw, made.settings
    if arguments.id is not None:
        if not _ID.fullmatch(arguments.id):
            raise CliError("--id must be 1 to 64 letters, digits or hyphens", 2)
        raw = f"{PREFIX}_{arguments.id}_{raw.split('_', 2)[2]}"
        settings = msgspec.structs.replace(settings, id=arguments.id, hash=hash_key(raw))
    print(f"The key, which is shown this once: {raw}\n")
    print("For the configuration:\n")
    print("[[keys]]")
    for name, value in (("id", settings.id), ("tenant", settings.tenant), ("hash", settings.hash)):
        print(f"{name} = {msgspec.json.encode(value).decode()}")
    return 0
