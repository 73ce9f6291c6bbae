"""`make clients`: install each client in a folder of its own, try it with one gateway, and write docs/clients.md."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.clients.client import Client, Outcome
from tests.clients.clients import CLIENTS
from tests.clients.document import PAGE, page_with, rows_of
from tests.clients.served import Served, served


def main(arguments: list[str]) -> int:
    """1 if something did not do as it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="these clients; the page keeps the rows of the others"
    )
    options = parser.parse_args(arguments)
    names = [client.name for client in CLIENTS]
    if unknown := set(options.only).difference(names):
        parser.error(f"no client is named {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [client for client in CLIENTS if not options.only or client.name in options.only]
    with tempfile.TemporaryDirectory(prefix="clients-") as folder, served(Path(folder)) as gateway:
        ran = {client: tried(client, gateway) for client in chosen}
    PAGE.write_text(page_with(PAGE.read_text(), CLIENTS, ran))
    outcomes = [each for rows in ran.values() for each in rows]
    counts = {name: sum(bool(getattr(each, name)) for each in outcomes) for name in ("refused", "fault")}
    print(f"{len(outcomes)} features of {len(ran)} clients: {counts['refused']} do not work, {counts['fault']} faults")
    return int(counts["fault"] > 0)


def tried(client: Client, gateway: Served) -> list[Outcome]:
    """What became of its features, printed."""
    try:
        client.install()
        outcomes = client.run(gateway.environment)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        outcomes = [Outcome("its installation", fault=str(error))]
    print("\n".join(rows_of(client, outcomes)), flush=True)
    return outcomes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
