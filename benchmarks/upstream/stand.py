"""One gateway on the stand: started, asked until it answers, measured, settled between two measurements."""

import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks.upstream.gateways.gateways import GATEWAYS, GatewayAbsentError, Place
from benchmarks.upstream.gateways.processes import Processes
from benchmarks.upstream.load.client import Fleet, Target
from benchmarks.upstream.load.exchange import Plan
from benchmarks.upstream.load.load_loop import LoadLoop
from benchmarks.upstream.load.scripted_upstream import ScriptedUpstream

DIRECT = "direct"
"""The clients on the upstream itself, without a gateway between."""
_TRY_S = 0.3
_ANSWER_S = 20.0
_SETTLE_S = 10.0


class CellFailedError(Exception):
    """A measurement without a figure; the message says why."""


class Setting(msgspec.Struct, frozen=True):
    """What all gateways have in common."""

    load: LoadLoop
    upstream: ScriptedUpstream
    peers: Path
    job: Path
    core: int | None
    """Of the gateways; None: no core is theirs alone."""
    start_s: float
    """How long a gateway may take until it answers."""


class Window(msgspec.Struct, frozen=True):
    """What happened in a span of time."""

    seconds: float
    pieces: int
    answers: int
    cpu_s: float
    """Of the gateway."""
    load_busy: float
    """Share of the time in which the load process computed; near 1 it is the limit, not the gateway."""


class Stand:
    """A running gateway, or with the name `direct` none at all."""

    def __init__(self, name: str, setting: Setting) -> None:
        """Start it and wait until it answers. Raises `GatewayAbsentError`."""
        self.name = name
        self._setting = setting
        self.load = setting.load
        self.upstream = setting.upstream
        self.processes: Processes | None = None
        self.version = ""
        if name == DIRECT:
            self.target = Target(setting.upstream.port)
            return
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=setting.job))
        port, spare = _free_ports(2)
        gateway = GATEWAYS[name](Place(port, spare, setting.upstream.port, folder, setting.peers))
        self.target, self.version = gateway.target, gateway.version
        try:
            self.processes = Processes(name, gateway.command, setting.job, setting.core)
        except OSError as error:
            raise GatewayAbsentError(f"cannot be started: {error}") from error
        try:
            self._wait(setting.start_s)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        if self.processes is not None:
            self.processes.end()

    def pause(self) -> None:
        if self.processes is not None:
            self.processes.pause()

    def resume(self) -> None:
        if self.processes is not None:
            self.processes.resume()

    @property
    def ended(self) -> bool:
        return self.processes is not None and self.processes.ended

    @contextmanager
    def fleet(self, plan: Plan, count: int) -> Iterator[Fleet]:
        """Connected clients, which are disconnected with the context. Raises `CellFailedError`."""
        if self.processes is not None:
            self.processes.look()
        try:
            fleet = Fleet(self.load, self.upstream, self.target, plan, count)
        except OSError as error:
            raise CellFailedError(f"{count} connections: {error}") from error
        try:
            yield fleet
        finally:
            fleet.close()

    def settle(self) -> bool:
        """Wait until the gateway has given up the calls of clients that have left. Returns whether it did."""
        return self.load.run(_SETTLE_S, lambda: not self.upstream.running)

    def window(self, fleet: Fleet, seconds: float) -> Window:
        """Let the clients run for some time."""
        cpu_s = self.cpu_s()
        totals = fleet.totals
        pieces, answers = totals.pieces, totals.answers
        began, busy = time.perf_counter(), time.process_time()
        self.load.run(seconds)
        whole = not fleet.plan.stream
        self.load.run(_ANSWER_S, lambda: (totals.answers > answers if whole else totals.pieces > pieces) or self.ended)
        pieces, answers = totals.pieces - pieces, totals.answers - answers
        passed, busy = time.perf_counter() - began, time.process_time() - busy
        cpu_s = self.cpu_s() - cpu_s
        self.check(fleet)
        if not (answers if whole else pieces):
            raise CellFailedError(f"nothing arrived within {passed:.0f} s: {totals.problem}")
        return Window(passed, pieces, answers, cpu_s, busy / passed)

    def check(self, fleet: Fleet) -> None:
        """Raise `CellFailedError` if the gateway has ended or fails more than a tenth of its answers."""
        if self.ended and self.processes is not None:
            raise CellFailedError(f"ended: {self.processes.tail()}")
        totals = fleet.totals
        if totals.failed * 10 > totals.answers + totals.failed:
            raise CellFailedError(
                f"{totals.failed} of {totals.answers + totals.failed} answers failed: {totals.problem}"
            )

    def direct(self) -> "Stand":
        """The clients on the same upstream, without this gateway."""
        return Stand(DIRECT, self._setting)

    def resident_bytes(self) -> int:
        if self.processes is None:
            return 0
        self.processes.look()
        return self.processes.resident_bytes()

    def cpu_s(self) -> float:
        return self.processes.cpu_s() if self.processes is not None else 0.0

    def _wait(self, start_s: float) -> None:
        assert self.processes is not None
        deadline = time.perf_counter() + start_s
        reason = "no connection"
        while time.perf_counter() < deadline:
            if self.processes.ended:
                raise GatewayAbsentError(f"ended at its start: {self.processes.tail()}")
            self.load.run(_TRY_S)
            try:
                fleet = Fleet(self.load, self.upstream, self.target, Plan(events=3, stream=False), 1)
            except OSError:
                continue
            fleet.repeating = False
            fleet.ask_all()
            self.load.run(_ANSWER_S, fleet.idle)
            totals = fleet.totals
            fleet.close()
            if totals.answers and not totals.lost:
                return
            reason = totals.problem or f"{totals.lost} of 3 pieces are missing"
        raise GatewayAbsentError(f"gave no answer within {start_s:.0f} s: {reason}: {self.processes.tail()}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
