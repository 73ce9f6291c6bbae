"""`make faults`: run every case of the table of faults and write docs/faults.md."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fault_table import processes
from tests.fault_table.cases import CASES
from tests.fault_table.document import PAGE, page, summary


def main(arguments: list[str]) -> int:
    """1 if an answer was dressed as a success, or something was left."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault_table", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="print the rows with this in their name, no page")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    rows = []
    for case in CASES:
        if options.only in case.name:
            rows.append(case.run())
            print(f"{case.name}: {rows[-1].saw}; {rows[-1].verdict}; {rows[-1].left}", flush=True)
    if not options.only:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            rows += processes.run(Path(folder))
        PAGE.write_text(page(rows))
    print(summary(rows).replace("**", ""))
    print(f"{time.monotonic() - began:.0f} s")
    return int(any(row.verdict == "DRESSED" or row.left != "clean" for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
