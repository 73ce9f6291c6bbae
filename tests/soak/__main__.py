"""`make soak`: all kinds of answers, clients that leave and an engine's process that is killed, over real sockets.

At the end resident memory, descriptors and threads must be what they were after the warm-up, and nothing may run.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import trio
from wsproto.utilities import LocalProtocolError

from tests.e2e.conftest import write_model
from tests.e2e.process import GatewayProcess
from tests.e2e.test_adapters_live import write_adapter
from tests.e2e.test_hosted_engine import child_of
from tests.e2e.test_process import gauges
from tests.fault_table.processes import SETTINGS, STATES, ask_process, body_of, hosted_is_ready
from tests.fault_table.seen import TRANSPORTS, Left, Seen
from tests.soak.measures import Holding, complaints, growth, holding

_CLIENTS = 6
_KILL_EACH_S = 60.0
_REST_S = 3.0
_FULL_SOON = "[admin]\ndecisions = 200\n"
"""Of a bounded buffer: it has to be full when the warm-up ends. With the default it fills within 10,000 answers."""
_KEPT = "5s"
"""Answers that outlive their connection are kept for so long."""


class Soak:
    """The load, and what was counted."""

    def __init__(self, process: GatewayProcess, seed: int) -> None:
        self._process = process
        self._chance = Random(seed)
        self.ends: Counter[str] = Counter()
        self.kills = 0
        self.under_load: list[Holding] = []

    async def run(self, seconds: float) -> None:
        """Load for so long, then wait for the last answers."""
        with trio.move_on_after(seconds) as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(_CLIENTS):
                    nursery.start_soon(self._client, trio.current_time() + seconds)
                nursery.start_soon(self._measure)
                nursery.start_soon(self._kill)
        assert scope.cancelled_caught
        await self.rest()

    async def rest(self) -> Holding:
        """What is held when nothing runs."""
        while sum(gauges(self._process, "num_requests_running")) or not hosted_is_ready(self._process):  # noqa: ASYNC110
            await trio.sleep(0.1)
        await trio.sleep(_REST_S + float(_KEPT.removesuffix("s")))
        return holding(self._process.pid)

    async def _client(self, until: float) -> None:
        while trio.current_time() < until:
            state, transport = self._chance.choice(sorted(STATES)), self._chance.choice(TRANSPORTS)
            body = body_of(state)
            if "model" not in STATES[state] and self._chance.random() < 0.4:
                body["model"] = "hosted"
            seen, patience = Seen(transport), self._chance.choice([0, 0, 0, 2, 30])
            seen.on_piece = None if not patience else lambda seen, most=patience: _leave(seen, most)
            headers = "x-penstock-resumable: true\r\n" if self._chance.random() < 0.2 else ""
            try:
                await ask_process(self._process.port, transport, body, seen, headers)
            except* LocalProtocolError:
                # trio-websocket answers a ping although its own close is under way.
                assert transport == "WebSocket"
            self.ends["whole" if seen.done else "left" if seen.left else seen.error or "lost"] += 1

    async def _measure(self) -> None:
        while True:
            await trio.sleep(1)
            self.under_load.append(holding(self._process.pid))

    async def _kill(self) -> None:
        while True:
            await trio.sleep(_KILL_EACH_S)
            if child := child_of(self._process):
                os.kill(child, signal.SIGKILL)
                self.kills += 1


def _leave(seen: Seen, most: int) -> None:
    if seen.pieces >= most and not seen.done:
        raise Left


def main(arguments: list[str]) -> int:
    """1 if anything grew, or an answer was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="after the warm-up (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=2, help="minutes before (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the load (default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        write_model(folder / "small", 1)
        shutil.copytree(folder / "small", folder / "large")
        write_adapter(folder / "small", folder / "legal", 1)
        text = SETTINGS.replace("[server]", f'[server]\nkeep_answers = "{_KEPT}"') + _FULL_SOON
        (folder / "config.toml").write_text(text)
        process = GatewayProcess("--config", str(folder / "config.toml"), log=folder / "log")
        try:
            return _soak(process, options.minutes, options.warm_up, options.seed)
        finally:
            process.end()


def _soak(process: GatewayProcess, minutes: float, warm_up: float, seed: int) -> int:
    soak, began = Soak(process, seed), time.monotonic()
    trio.run(soak.run, warm_up * 60)
    before = trio.run(soak.rest)
    soak.under_load.clear()
    trio.run(soak.run, minutes * 60)
    after = trio.run(soak.rest)
    found = complaints(before, after, soak.under_load)
    if lost := soak.ends["lost"]:
        found.append(f"{lost} answers were lost")
    ends = ", ".join(f"{end} {count}" for end, count in sorted(soak.ends.items()))
    print(f"{soak.ends.total()} answers in {time.monotonic() - began:.0f} s: {ends}; {soak.kills} kills of an engine")
    print(
        f"resident memory {growth(soak.under_load):+.1%} under load, at rest {before.resident_bytes / 2**20:.1f} to "
        f"{after.resident_bytes / 2**20:.1f} MiB; descriptors {before.descriptors} to {after.descriptors}; "
        f"threads {before.threads} to {after.threads}"
    )
    for each in found:
        print(f"failed: {each}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
