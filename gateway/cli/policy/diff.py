"""`penstock policy diff`: which settings and which decisions differ between two policies."""

import argparse
from pathlib import Path
from typing import Any

from gateway.cli.terminal import Page, percent, print_data, say
from gateway.errors import CliError
from policies.authoring.policy_diff import DecisionDiff, PolicyDiff, policy_diff
from policies.records.trace import BadTrace, read_trace

_MOST_SHIFTS = 8
_ABOUT = """\
Print which settings of two files differ, and which decisions: over requests generated on both sides of every boundary
of either policy, and, with --trace, over recorded traffic. Generated requests show what can differ; only a trace can
show how much of real traffic does. A trace without features (Azure, Mooncake) has lengths and times only; one made
with `penstock serve --record` has all features that policies use. Engines are assumed to be idle.

--json prints: before, after, decides_the_same, settings (kind, subject, name, key, before, after, decides), words,
synthetic and trace (requests, changed, share, terms_only, aspects), notes.
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser(
        "diff",
        help="compare the settings and decisions of two policies",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("before", type=Path, metavar="A", help="the old policy: a TOML file or a folder of them")
    add("after", type=Path, metavar="B", help="the new policy")
    add(
        "--trace",
        type=Path,
        metavar="FILE",
        help="Azure CSV, Mooncake JSONL or a recording of `penstock serve --record`",
    )
    add("--samples", type=int, default=4000, metavar="N", help="number of generated requests (%(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the generated requests (%(default)s)")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from gateway.cli.policy.policy_file import read_policy

    if arguments.samples < 0:
        raise CliError("--samples must not be negative", 2)
    say(f"reading {arguments.before} and {arguments.after}")
    before, notes = read_policy(arguments.before)
    after, more = read_policy(arguments.after)
    try:
        trace = None if arguments.trace is None else read_trace(arguments.trace)
        diff = policy_diff(
            before,
            after,
            samples=arguments.samples,
            seed=arguments.seed,
            trace=trace,
            notes=tuple(dict.fromkeys((*notes, *more))),
            progress=lambda decided: say(f"{decided} of {arguments.samples} generated requests decided"),
        )
    except BadTrace as error:
        raise CliError(str(error), 2) from None
    if arguments.json:
        print_data(diff)
    else:
        _page(diff, arguments).print()
    return 0


def _page(diff: PolicyDiff, arguments: argparse.Namespace) -> Page:
    page = Page()
    page.line(f"{arguments.before} ({diff.before.policy}) → {arguments.after} ({diff.after.policy})", style="dim")
    for note in diff.notes:
        page.line(f"note: {note}", style="yellow")
    page.heading("Settings")
    for change, words in zip(diff.settings, diff.words, strict=True):
        style = {"added": "green", "removed": "red"}.get(change.kind, "")
        page.line(words + ("" if change.decides else "  (no effect on decisions)"), indent=2, style=style)
    if not diff.settings:
        page.line("the same", indent=2)
    _decisions(page, f"Decisions over {diff.synthetic.requests} generated requests", diff.synthetic)
    if diff.trace is not None:
        _decisions(page, f"Decisions over the {diff.trace.requests} requests of {arguments.trace}", diff.trace)
    return page


def _decisions(page: Page, title: str, diff: DecisionDiff) -> None:
    if not diff.requests:
        return
    page.heading(title)
    page.line(f"{percent(diff.share)} decided differently ({diff.changed})", indent=2)
    if diff.terms_only:
        share = percent(diff.terms_only / diff.requests)
        page.line(f"{share} get the same decision with a different threshold, deadline, cap or the like", indent=2)
    for aspect in diff.aspects:
        page.line(f"{aspect.name}: {percent(aspect.share)} change", indent=2, style="cyan")
        shifts = aspect.shifts[:_MOST_SHIFTS]
        for shift in shifts:
            page.line(f"{shift.count:>6} {percent(shift.share):>7}  {shift.before} → {shift.after}", indent=2, hang=18)
            page.line(f"such as: {shift.example}", indent=18, style="dim")
        if len(aspect.shifts) > _MOST_SHIFTS:
            page.line(f"and {len(aspect.shifts) - _MOST_SHIFTS} more: --json", indent=4, style="dim")
