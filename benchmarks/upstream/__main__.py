"""Penstock as a gateway in front of another server, beside other gateways: python -m benchmarks.upstream.

    python -m benchmarks.upstream [--gateways penstock litellm portkey smg relay] [--cells whole streams ...]
                                  [--rounds 3] [--seconds 5] [--tiny] [--no-install] [--json FILE]

Every gateway, with all its processes, is on one core; the clients and the scripted upstream behind the gateways are one
process on another core. All gateways run at once, but are stopped by a signal except while they are measured; cells and
rounds are interleaved, so that noise on the machine affects all of them. What is absent is skipped with a reason.
"""

import sys

from benchmarks.upstream.command import main

if __name__ == "__main__":
    sys.exit(main())
