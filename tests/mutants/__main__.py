"""`make mutants`: a seeded sample of small changes to the pure cores and the books, and which of them no test notices.

Each mutant stands in a copy of the tree, never in the working tree, and meets the tests that concern its module; what
they do not notice meets the type checker.
"""

import argparse
import difflib
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from random import Random

from tests.mutants.areas import PURE_CORES_AND_BOOKS, sources, tests_of
from tests.mutants.mutations import Mutation, mutations
from tests.mutants.trial import Baselines, BrokenBaseline, Copy


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    path: Path
    """From the root."""
    source: str
    """Before the change."""
    mutation: Mutation


_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


def main(arguments: list[str], root: Path) -> int:
    """1 if something survived, 2 if the tests cannot judge."""
    options = _parser().parse_args(arguments)
    chosen = sample(root, options.paths or list(PURE_CORES_AND_BOOKS), options.count, options.seed, options.since)
    noticed: Counter[Path] = Counter()
    total: Counter[Path] = Counter()
    mistyped = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: SimpleQueue[Copy] = SimpleQueue()
        baselines = Baselines()
        for number in range(options.jobs):
            copies.put(Copy(root, Path(folder) / str(number), baselines))

        def judge(mutant: Mutant) -> tuple[Mutant, str]:
            if options.minutes is not None and time.monotonic() - began > options.minutes * 60:
                return mutant, "not tried"
            copy = copies.get()
            try:
                tests = tests_of(copy.root, mutant.path)
                return mutant, copy.trial(mutant.path, mutant.mutation.applied(mutant.source), tests)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(options.jobs) as pool:
            try:
                for mutant, outcome in pool.map(judge, chosen):
                    if outcome != "not tried":
                        total[mutant.path] += 1
                        noticed[mutant.path] += outcome != "survived"
                        mistyped += outcome == "mistyped"
                        _say(mutant, outcome)
            except BrokenBaseline as error:
                pool.shutdown(cancel_futures=True)
                print(f"error: {error}", file=sys.stderr)
                return 2
    for path in sorted(total):
        print(f"{path}: {noticed[path]} of {total[path]}")
    by_types = f", {mistyped} of them by the type checker alone" if mistyped else ""
    print(f"noticed: {noticed.total()} of {total.total()}{by_types} (seed {options.seed}, {options.count} asked for)")
    return int(noticed.total() < total.total())


def sample(root: Path, paths: list[str], count: int, seed: int, since: str | None = None) -> list[Mutant]:
    """The same ones for the same seed and the same sources. `since`: of the lines that differ from this revision."""
    every = []
    for path in sources(root, paths):
        lines = _changed_lines(root, path, since) if since is not None else None
        source = (root / path).read_text()
        every += [Mutant(path, source, each) for each in mutations(source) if lines is None or each.line in lines]
    return Random(seed).sample(every, min(count, len(every)))


def _changed_lines(root: Path, path: Path, since: str) -> set[int]:
    diff = subprocess.run(
        ["git", "diff", "-U0", since, "--", str(path)], cwd=root, check=True, capture_output=True, text=True
    )
    found: set[int] = set()
    for first, count in _HUNK.findall(diff.stdout):
        found.update(range(int(first), int(first) + int(count or 1)))
    return found


def _say(mutant: Mutant, outcome: str) -> None:
    print(f"{outcome}: {mutant.path}:{mutant.mutation.line} ({mutant.mutation.kind})", flush=True)
    if outcome == "survived":
        name, before = str(mutant.path), mutant.source.splitlines()
        after = mutant.mutation.applied(mutant.source).splitlines()
        for line in difflib.unified_diff(before, after, name, name, lineterm="", n=2):
            print(f"    {line}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="how many mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: %(default)s)")
    parser.add_argument("--paths", nargs="+", metavar="PATH", help="files or folders instead of the usual ones")
    parser.add_argument("--since", metavar="REVISION", help="only lines that differ from this revision")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time, each in a copy (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="begin no mutant after so long")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path.cwd()))
