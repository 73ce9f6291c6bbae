"""`penstock keys new`: make an API key."""

import argparse
import secrets
from typing import Any

import msgspec

from config.model.tenancy import KEY_ID
from gateway.errors import CliError


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    keys = commands.add_parser("keys", help="create API keys")
    new = keys.add_subparsers(title="commands", metavar="COMMAND", required=True).add_parser(
        "new", help="create a key: it is printed once, only its hash is stored"
    )
    whose = new.add_mutually_exclusive_group(required=True)
    whose.add_argument("--tenant", help="the tenant that the key belongs to")
    whose.add_argument("--admin", action="store_true", help="a key for the admin API only")
    whose.add_argument("--metrics", action="store_true", help="a key for /metrics only")
    new.add_argument("--id", help="name of the key (default: random)")
    new.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the key and the lines for the configuration."""
    from policies.admission.keys import ADMIN_PREFIX, METRICS_PREFIX, PREFIX, RANDOM_BYTES, new_key

    if arguments.id is not None and not KEY_ID.fullmatch(arguments.id):
        raise CliError("--id must be 1 to 64 letters, digits or hyphens", 2)
    prefix, table = PREFIX, "keys"
    if arguments.admin:
        prefix, table = ADMIN_PREFIX, "admin.keys"
    elif arguments.metrics:
        prefix, table = METRICS_PREFIX, "metrics.keys"
    made = new_key(arguments.tenant or "", secrets.token_bytes(RANDOM_BYTES), arguments.id, prefix=prefix)
    raw, settings = made.raw, made.settings
    print(f"The key, shown only once: {raw}\n")
    needs = " (it also needs a [tenants.NAME] table)" if settings.tenant else ""
    print(f"Add to the configuration{needs}:\n")
    print(f"[[{table}]]")
    for name, value in (("id", settings.id), ("tenant", settings.tenant), ("hash", settings.hash)):
        if value:
            print(f"{name} = {msgspec.json.encode(value).decode()}")
    return 0
