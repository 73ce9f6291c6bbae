"""`penstock policy test`: run the tests in a policy file."""

import argparse
from pathlib import Path
from typing import Any

import msgspec

from gateway.cli.terminal import Page, print_data
from policies.authoring.expectation import ExpectationVerdict, judge

_ABOUT = """\
Each [[tests]] table has a request, a load and the expected decision. A failed test is printed with the facts of its
decision, and the exit code is then 1.

--json prints: policy, passed, failed, tests (name, passed, differences (what, expected, got), decided, why), notes.
"""


class ExpectationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result as `--json` prints it; its keys are stable."""

    schema: int = 1
    policy: str
    passed: int
    failed: int
    tests: tuple[ExpectationVerdict, ...]
    notes: tuple[str, ...]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser(
        "test",
        help="run the tests in a policy file",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config", nargs="?", type=Path, metavar="FILE", help="the policy (default: the embedded models')"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: all tests passed; 1: some failed."""
    from gateway.cli.policy.policy_file import read_policy

    decider, notes = read_policy(arguments.config)
    verdicts = tuple(judge(decider, test) for test in decider.settings.tests)
    failed = sum(not verdict.passed for verdict in verdicts)
    digest, passed = decider.policy.digest, len(verdicts) - failed
    report = ExpectationReport(policy=digest, passed=passed, failed=failed, tests=verdicts, notes=notes)
    if arguments.json:
        print_data(report)
    else:
        _page(report).print()
    return 1 if failed else 0


def _page(report: ExpectationReport) -> Page:
    page = Page()
    for note in report.notes:
        page.line(f"note: {note}", style="yellow")
    for verdict in report.tests:
        page.line(f"{'✓' if verdict.passed else '✗'} {verdict.name}", style="green" if verdict.passed else "bold red")
        if verdict.passed:
            continue
        rows = [(each.what, _shown(each.expected), _shown(each.got)) for each in verdict.differences]
        page.table([("", "expected", "got"), *rows], indent=4)
        if verdict.decided:
            page.line(f"decided: {verdict.decided}", indent=4)
        for fact in verdict.why:
            page.line(fact, indent=6, style="dim")
    if count := len(report.tests):
        many = f"{count} test" if count == 1 else f"{count} tests"
        page.line(f"{many}, {report.passed} passed, {report.failed} failed", style="bold")
    else:
        page.line("the policy has no [[tests]]")
    return page


def _shown(value: object) -> str:
    """As the TOML file would write it; "none" for no value."""
    return "none" if value is None else msgspec.json.encode(value).decode()
