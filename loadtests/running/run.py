"""A whole run: starts the workers' processes, shows their progress, and makes the record of what they measured."""

import datetime as dt
import sys
import time
from collections.abc import Callable, Mapping
from subprocess import PIPE

import msgspec
import trio
from trio.lowlevel import open_process

from loadtests.faults.fault_runner import FaultRunner
from loadtests.faults.recovery import with_recovery
from loadtests.model.errors import RunError
from loadtests.model.run_record import RunHeader, RunHost, RunRecord
from loadtests.model.scenario import Scenario
from loadtests.model.timing import duration_of, warm_up_of, warm_up_rule
from loadtests.running.machine import clock_error_s, this_machine
from loadtests.running.progress import WorkerProgress, together
from loadtests.running.tally import WorkerTally, merge_tallies, window_width
from loadtests.running.verdict import fairness, grouped, judge, totals_of
from loadtests.running.worker import WorkerShare
from loadtests.running.worker_messages import (
    BeginRun,
    StopRun,
    Unpacker,
    WorkerDone,
    WorkerReady,
    WorkerTold,
    decode_from_worker,
    packed,
)
from loadtests.schedule.traced_request import TracedRequest

_COMMAND = (sys.executable, "-P", "-m", "loadtests.running.worker_process")
_BEFORE_BEGIN_S = 0.2
"""From the moment in which all workers are ready to the beginning of the run."""
_STOPPING_S = 20.0
"""A worker that has not ended so long after it was stopped is killed."""
_SHOWN_EVERY_S = 0.5
_READ_BYTES = 1 << 16


class HostPart(msgspec.Struct, frozen=True):
    """What this host does of a run that several hosts share, each with as many workers as the scenario says."""

    part: int = 1
    parts: int = 1
    start_at: float | None = None
    """Unix time; None: as soon as the workers are ready."""


_WHOLE = HostPart()


class LoadRun:
    """`run` it once."""

    def __init__(
        self,
        scenario: Scenario,
        keys: Mapping[str, str],
        *,
        version: str,
        show: Callable[[WorkerProgress], None] | None = None,
        trace: tuple[TracedRequest, ...] = (),
        faults: FaultRunner | None = None,
        part: HostPart = _WHOLE,
    ) -> None:
        """`keys`: API keys by tenant; "": of requests without one. `show`: called with the progress of all workers."""
        self._scenario = scenario
        self._keys = dict(keys)
        self._version = version
        self._trace = trace
        self._faults = faults
        self._part = part
        self._show = show
        self._links: list[_WorkerLink] = []
        self._cut_short = False
        self.begun_s = 0.0
        self._begun_at = 0.0
        """The same of the wall's clock."""

    @property
    def is_stopped(self) -> bool:
        return self._cut_short

    @property
    def pids(self) -> list[int]:
        """Of the workers that run."""
        return [link.pid for link in self._links if link.pid]

    def stop(self) -> None:
        """End in order: the record then has what was measured until now."""
        self._cut_short = True
        for link in self._links:
            link.stop()

    async def run(self) -> RunRecord:
        """Raises RunError."""
        count, part = self._scenario.workers, self._part
        first, every = (part.part - 1) * count, part.parts * count
        self._links = [
            _WorkerLink(WorkerShare(self._scenario, self._keys, first + worker, every, self._trace))
            for worker in range(count)
        ]
        try:
            async with trio.open_nursery() as nursery:
                for link in self._links:
                    await nursery.start(link.run)
                self.begun_s = time.perf_counter() + self._until_begin()
                for link in self._links:
                    link.begin(self.begun_s)
                if self._cut_short:
                    self.stop()
                nursery.start_soon(self._keep_showing)
                if self._faults is not None:
                    nursery.start_soon(self._faults.run, self.begun_s)
                for link in self._links:
                    await link.ended.wait()
                nursery.cancel_scope.cancel()
        except* (OSError, ValueError, RunError) as group:
            raise RunError(f"the run cannot begin: {group.exceptions[0]}") from None
        faults = [
            f"worker {index} ended before its time (exit code {link.exit_code}): its requests are missing"
            for index, link in enumerate(self._links)
            if link.tally is None and not (self._cut_short and link.exit_code == 0)
        ]
        seen_s = time.perf_counter() - self.begun_s
        tallies = [link.tally for link in self._links if link.tally is not None]
        return self._record(tallies, faults, seen_s)

    def _until_begin(self) -> float:
        """Seconds from now, when all workers are ready, to the beginning. Raises RunError."""
        now, start_at = time.time(), self._part.start_at
        self._begun_at = now + _BEFORE_BEGIN_S if start_at is None else start_at
        if self._begun_at < now + _BEFORE_BEGIN_S:
            late_s = now + _BEFORE_BEGIN_S - self._begun_at
            raise RunError(f"its time passed {late_s:.1f} s before the workers were ready; give a later --start-at")
        return self._begun_at - now

    async def _keep_showing(self) -> None:
        while True:
            await trio.sleep(_SHOWN_EVERY_S)
            if self._show is not None:
                self._show(together([link.progress for link in self._links]))

    def _record(self, tallies: list[WorkerTally], faults: list[str], seen_s: float) -> RunRecord:
        scenario, machine = self._scenario, this_machine()
        tally = merge_tallies(tallies, scenario.rows, f"{scenario.seed}/rows")
        totals = totals_of(tally.groups)
        groups = grouped(tally.groups)
        end_s = min(seen_s, duration_of(scenario)) if self._cut_short else duration_of(scenario)
        verdict = judge(scenario.lag, tally.lag, totals.latencies, faults + tally.faults, cut_short=self._cut_short)
        header = RunHeader(
            penstock=self._version,
            started_at=dt.datetime.fromtimestamp(self._begun_at, dt.UTC).isoformat(timespec="seconds"),
            scenario=scenario,
            machine=machine,
            warm_up_s=warm_up_of(scenario),
            warm_up_rule=warm_up_rule(scenario),
            measured_s=max(end_s - warm_up_of(scenario), 0.0),
            window_s=window_width(duration_of(scenario)),
            server=tally.server,
            hosts=(RunHost(machine.name, self._part.part, self._part.parts, self._begun_at, clock_error_s()),),
        )
        windows = tuple([tally.windows[index] for index in sorted(tally.windows)])
        return RunRecord(
            header=header,
            verdict=verdict,
            totals=totals,
            groups=groups,
            windows=windows,
            failures=tuple(tally.failures),
            lag=tally.lag,
            fairness=fairness(groups.get("tenant", {})),
            rows=tuple(tally.rows),
            requests=tally.requests,
            faults=with_recovery(
                self._faults.records if self._faults is not None else (),
                windows,
                warm_up_s=header.warm_up_s,
                window_s=header.window_s,
                end_s=end_s,
            ),
        )


class _WorkerLink:
    """One worker's process, and what has come from it."""

    def __init__(self, share: WorkerShare) -> None:
        self._share = share
        self._process: trio.Process | None = None
        self._to_send: list[bytes] = []
        self._some = trio.Event()
        self.progress = WorkerProgress()
        self.tally: WorkerTally | None = None
        self.ended = trio.Event()
        self.exit_code: int | None = None

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    def begin(self, begun_s: float) -> None:
        self._send(packed(BeginRun(begun_s)))

    def stop(self) -> None:
        self._send(packed(StopRun()))

    def _send(self, message: bytes) -> None:
        self._to_send.append(message)
        self._some.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until the process has ended. It is started, and ready, when `task_status` says so."""
        process = self._process = await open_process(list(_COMMAND), stdin=PIPE, stdout=PIPE)
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, process.stdin)
                await self._read(process.stdout, task_status)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._end(process)
            self.ended.set()

    async def _write(self, stream: trio.abc.SendStream) -> None:
        self._to_send.insert(0, packed(self._share))
        try:
            while True:
                while self._to_send:
                    await stream.send_all(self._to_send.pop(0))
                self._some = trio.Event()
                await self._some.wait()
        except trio.BrokenResourceError:
            await trio.sleep_forever()  # its end is seen by reading

    async def _read(self, stream: trio.abc.ReceiveStream, task_status: trio.TaskStatus[None]) -> None:
        unpacker = Unpacker()
        is_ready = False
        while True:
            data = await stream.receive_some(_READ_BYTES)
            if not data:
                if not is_ready:
                    raise RunError("it ended at once; its own words are above")
                return
            for raw in unpacker.feed(bytes(data)):
                match decode_from_worker(raw):
                    case WorkerReady():
                        is_ready = True
                        task_status.started()
                    case WorkerTold(progress=progress):
                        self.progress = progress
                    case WorkerDone(tally=tally):
                        self.tally = tally
                        return

    async def _end(self, process: trio.Process) -> None:
        """Its input is closed, which ends it; if it does not, it is killed."""
        if process.stdin is not None:
            await process.stdin.aclose()
        with trio.move_on_after(_STOPPING_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        self.exit_code = process.returncode
        if process.stdout is not None:
            await process.stdout.aclose()
