"""CPU time of `penstock check` for large policies, by shape and size.

    python -m benchmarks.policies.check [--sizes 300,1000,3000,6000] [SHAPE ...]

A shape is a policy with many items of one kind; a time that grows faster than linearly with the size is a defect.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from config.load import parse
from config.problems.errors import ConfigError

_BASE = """\
schema = 1
tiers.default = {}
[prices]
small = { input = 1, output = 1 }
large = { input = 1, output = 1 }
[engines.small]
model = "s"
[engines.large]
model = "l"
"""
_REST = """\
[[routes]]
name = "rest"
use.ladder = "safe"
[[ladders.safe]]
to = "small"
[[ladders.safe]]
to = "large"
"""
_CASCADE = 'stages = ["small", "large"]\ndefer.threshold = 0.5\non_failure = "safe"\n'
_EXPERIMENT = """\
[[experiments]]
name = "x@"
route = ["r@"]
arms = { control = 50, b = 50 }
override.b = { "cascades.c@.defer.threshold" = 0.7 }
"""


def _route(name: str, when: str, use: str = '{ ladder = "safe" }') -> str:
    return f'[[routes]]\nname = "{name}"\nwhen = {{ {when} }}\nuse = {use}\n'


def _numbered(size: int, *lines: str) -> str:
    """Each line repeated for the numbers from 0; @ is the number and ^ the count remaining."""
    return "".join(
        line.replace("@", str(number)).replace("^", str(size - number)) for line in lines for number in range(size)
    )


_BY_TAG = _route("r@", 'tag = ["t@"]')
_KEY = '[[keys]]\nid = "k@"\ntenant = "t@"\nhash = "HASH"\n'
_SHAPES: dict[str, tuple[str, ...]] = {
    "routes by tag": (_BY_TAG,),
    "routes by tenant": (_route("r@", 'tenant = ["t@"]'), "[tenants.t@]\n", _KEY),
    "routes by header": (_route("r@", 'header = { x-app = ["a@"] }'),),
    "routes by many headers": (_route("r@", 'header = { x-app-@ = ["a"] }'),),
    "routes by length": (_route("r@", "prompt_tokens = { at_least = ^0 }"),),
    "routes with choices": (_route("r@", 'any = [{ tag = ["t@"] }, { header = { x-app = ["a@"] } }]'),),
    "routes by signal": (_route("r@", 'signal = ["s@"]'), '[signals.s@]\ntag = ["t@"]\n'),
    "routes to engines": (
        _route("r@", 'tag = ["t@"]', '{ ladder = "l@" }'),
        '[engines.e@]\nmodel = "m"\n',
        '[[ladders.l@]]\nto = "e@"\n',
    ),
    "models": (_route("r@", 'model = ["m@"]'), "[models.m@]\n"),
    "keys": ("[tenants.t@]\n", _KEY),
    "budgets": (
        _route("r@", 'tenant = ["t@"]'),
        "[tenants.t@]\nbudget.amount = 5.0\n",
        _KEY,
    ),
    "cascades": (_route("r@", 'tag = ["t@"]', '{ cascade = "c@" }'), f"[cascades.c@]\n{_CASCADE}"),
    "experiments": (
        _route("r@", 'tag = ["t@"]', '{ cascade = "c@" }'),
        f"[cascades.c@]\n{_CASCADE}",
        _EXPERIMENT,
    ),
    "shadows": (_BY_TAG, '[[shadows]]\nname = "s@"\nroute = ["r@"]\nto = "large"\nshare = 0.1\n'),
    "tests": (_BY_TAG, '[[tests]]\nname = "s@"\ngiven = { tag = ["t@"] }\nexpect = { route = "r@" }\n'),
    "misspelled names": (_route("r@", 'signal = ["sx@"]'), '[signals.sy@]\ntag = ["t@"]\n'),
    "routes never reached": (_REST, _BY_TAG),
}
SHAPES = tuple(_SHAPES)


def policy(shape: str, size: int) -> str:
    """The policy as TOML."""
    first, *others = _SHAPES[shape]
    parts = [_BASE, *([first] if first == _REST else [_numbered(size, first)]), *(_numbered(size, *others),)]
    text = "".join([*parts, "" if first == _REST else _REST, "" if shape == "models" else "[models.chat]\n"])
    pieces = text.split("HASH")
    return "".join([f"{number:064x}{piece}" if number else piece for number, piece in enumerate(pieces)])


def check(text: str) -> int:
    """Number of problems found."""
    try:
        return len(parse(text, Path("/large.toml")).warnings)
    except ConfigError as error:
        return len(error.problems)


def _rows(shapes: list[str], sizes: list[int]) -> Iterator[str]:
    yield f"{'':24}" + "".join(f"{size:>9}" for size in sizes)
    for shape in shapes:
        times = []
        for size in sizes:
            text = policy(shape, size)
            began = time.process_time()
            check(text)
            times.append(time.process_time() - began)
        yield f"{shape:24}" + "".join(f"{each:>7.2f} s" for each in times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"of: {', '.join(SHAPES)}")
    parser.add_argument("--sizes", default="300,1000,3000,6000")
    arguments = parser.parse_args()
    for row in _rows(arguments.shapes or list(SHAPES), [int(size) for size in arguments.sizes.split(",")]):
        print(row, flush=True)


if __name__ == "__main__":
    main()
