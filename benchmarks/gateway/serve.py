"""One server of the benchmark in a process of its own: prints its port, then serves until it is ended."""

import argparse
import os
import sys
import threading
from typing import Any

import trio

from benchmarks.gateway.fixed import fixed_server
from benchmarks.gateway.scripted import ScriptedService
from gateway.app import spare_the_collector
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.routes import Routes
from gateway.http.bounds.limits import ServerLimits
from gateway.http.server import Server, listen
from gateway.telemetry.logs import configure_logs

KINDS = ("fixed", "edge", "service")
SILENT_TOKENS = 1_000_000
"""A request for this many tokens gets one, and then silence."""


def main() -> None:
    """Serve one kind: fixed bytes, the HTTP layer on a scripted service, or the whole service on a fake engine."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--step-s", type=float, default=0.0, help="between two events of a stream; 0: no pause")
    parser.add_argument("--engine-step-s", type=float, default=0.0, help="the same for the fake engine of the service")
    parser.add_argument("--core", type=int)
    arguments = parser.parse_args()
    configure_logs("warning")
    # The parent process holds the other end of stdin: when it ends, so does this process.
    threading.Thread(target=lambda: os._exit(sys.stdin.read() != ""), daemon=True).start()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    trio.run(_serve, arguments.kind, arguments.step_s, arguments.engine_step_s)


async def _serve(kind: str, step_s: float, engine_step_s: float) -> None:
    async with trio.open_nursery() as nursery:
        if kind == "fixed":
            server = fixed_server(step_s, SILENT_TOKENS)
        elif kind == "edge":
            server = _gateway(ScriptedService(step_s, SILENT_TOKENS))
        else:
            from benchmarks.gateway.service import start_service

            server = _gateway(await start_service(nursery, engine_step_s, SILENT_TOKENS))
        await nursery.start(server.run)
        spare_the_collector()
        print(server.port, flush=True)


def _gateway(service: Any) -> Server:
    # Sixteen clients stand for many, so the limit per connection is lifted.
    limits = ServerLimits(max_connections=5000, heartbeat_s=60, messages_per_s=1_000_000)
    routes = Routes(ApiContext(service=service, max_choices=16, max_inputs=16), limits, frozenset())
    return Server(listen("127.0.0.1", 0), limits, routes)


if __name__ == "__main__":
    main()
