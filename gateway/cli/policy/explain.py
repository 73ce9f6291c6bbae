"""`penstock policy explain`: which decision a request gets and why, and what would change it."""

import argparse
import os
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from gateway.cli.policy.request_flags import add_flags
from gateway.cli.terminal import print_data
from gateway.errors import CliError
from policies.authoring.explanation import explain
from policies.authoring.situation import recorded_situation
from policies.records.decision_record import DecisionRecord, decode_record

ADMIN_KEY = "PENSTOCK_ADMIN_KEY"
_PATIENCE_S = 10
_LARGEST_ANSWER = 4 * 2**20
_EXAMPLES = """\
examples:
  penstock policy explain --config policy.toml --model chat --tenant acme --prompt-tokens 9000
  penstock policy explain --config policy.toml --request body.json --tag support --load large.queue_wait=3s
  penstock policy explain --config policy.toml --id 0f6c… --admin http://127.0.0.1:8081

With --id the request is one that a server has answered; the key for its admin API is read from the environment
variable PENSTOCK_ADMIN_KEY. The policy is that of the file, and a note says if it is not the one that decided.
--json prints the same as data: policy, features, load, refused, outcome, routes, complexity, budget, experiment,
cascade, rungs, way, shadows, deadlines, output_cap, midstream, reasons, degraded, reserved, would_change, happened,
notes.
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser(
        "explain",
        help="explain the decision on one request, and what would change it",
        description="Decide one request and print everything that the decision used.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the policy (default: the embedded models')")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--all", action="store_true", help="print all single changes that would change the decision")
    real = parser.add_argument_group("a request that was served")
    real.add_argument("--id", metavar="REQUEST_ID", help="its id, from the response header x-request-id")
    real.add_argument(
        "--admin", metavar="URL", default="http://127.0.0.1:8081", help="the server's admin API (%(default)s)"
    )
    add_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from gateway.cli.policy.described_request import described
    from gateway.cli.policy.explain_report import explanation_page
    from gateway.cli.policy.policy_file import read_policy

    decider, notes = read_policy(arguments.config)
    if arguments.id is not None:
        record = fetch_record(arguments.admin, arguments.id, os.environ.get(ADMIN_KEY))
        if record.policy != decider.policy.digest:
            notes += (f"it was decided by policy {record.policy}; what follows is what this file would decide",)
        explanation = explain(decider, recorded_situation(record.features, record.load), record=record, notes=notes)
    else:
        what = described(arguments, decider)
        explanation = explain(decider, what.situation, terms=what.terms, notes=(*notes, *what.notes))
    if arguments.json:
        print_data(explanation)
    else:
        explanation_page(explanation, everything=arguments.all).print()
    return 0


def fetch_record(admin: str, request_id: str, key: str | None) -> DecisionRecord:
    """Read the decision record of a request from a server's admin API. Raises CliError."""
    if urllib.parse.urlsplit(admin).scheme not in {"http", "https"}:
        raise CliError(f"--admin {admin}: expected an address such as http://127.0.0.1:8081", 2)
    url = f"{admin.rstrip('/')}/admin/decisions/{urllib.parse.quote(request_id, safe='')}"
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  (its scheme was checked)
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310
            return decode_record(answer.read(_LARGEST_ANSWER))
    except urllib.error.HTTPError as error:
        match error.code:
            case 401 | 403:
                raise CliError(f"{admin} refused the key: set {ADMIN_KEY} to an admin key") from None
            case 404:
                raise CliError(f"{admin} has no record of {request_id}: it keeps the last requests only") from None
        raise CliError(f"{url} answered with status {error.code}") from None
    except (OSError, ValueError) as error:
        raise CliError(f"{url}: {getattr(error, 'reason', error)}") from None
