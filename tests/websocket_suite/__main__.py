"""`make websocket-suite`: the cases of Autobahn's suite, run by kosoku, against the WebSocket layer.

Left out is what the layer does not offer: binary messages (1.2, and the even parts of 9) and compression (12, 13).
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
import trio

from tests.websocket_suite.echo import server

CASES = ("1.1.*", *[f"{number}.*" for number in (2, 3, 4, 5, 6, 7)], "9.1.*", "9.3.*", "9.5.*", "9.7.*", "10.*")
RUNNER = Path(sys.executable).with_name("kosoku")
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}


async def run(folder: Path, cases: tuple[str, ...] = CASES) -> dict[str, str]:
    """How the server behaved, by case."""
    serving = server()
    async with trio.open_nursery() as nursery:
        await nursery.start(serving.run)
        chosen = [word for case in cases for word in ("-i", case)]
        await trio.run_process([RUNNER, *chosen, "-o", folder, f"127.0.0.1:{serving.port}"], capture_stdout=True)
        await serving.finish(0)
        nursery.cancel_scope.cancel()
    (found,) = msgspec.json.decode((folder / "index.json").read_bytes()).values()
    return {case: row["behavior"] for case, row in found.items()}


def main() -> int:
    """1 if a case failed."""
    if not RUNNER.exists():
        print("kosoku is not there: start this by `make websocket-suite`", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="websocket-suite-") as folder:
        behaviors = trio.run(run, Path(folder))
    for case, behavior in behaviors.items():
        if behavior not in GOOD:
            print(f"{case}: {behavior}")
    counts = Counter(behaviors.values())
    print(f"{len(behaviors)} cases: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    return int(not GOOD.issuperset(counts))


if __name__ == "__main__":
    sys.exit(main())
